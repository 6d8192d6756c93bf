package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/alderdb/alder/internal/kvformat"
)

// cli is what every command shares: the standard streams and the flags that all commands have.
type cli struct {
	stdin, stdout, stderr *os.File

	quiet   bool
	json    bool
	timeout time.Duration
}

const rootLong = `kvctl reads and writes alder stores.

A store is one file. It holds buckets, a bucket holds keys with their values,
sorted by their bytes, and buckets inside it. BUCKET names a bucket inside
others by a path:

  users            a bucket
  users/emails     the bucket emails inside users
  a\/b             a bucket whose name has a slash; \\ is a backslash, \xHH any byte

KEY, and the bounds --from, --to and --prefix, are text that stands for itself,
or a Go string literal where it starts with a double quote: "tab\there",
"\x00\xff". Keys are printed in the same way. --key-format chooses another way
for both: raw, hex, base64 or json.

Commands that only read take a shared lock and never create or change a file.
Commands that write take an exclusive one. A store that is locked is an error
at once, or after --timeout.

Exit codes:
  0  success
  1  the key or bucket does not exist
  2  the command line or the input is wrong
  3  an I/O error, a locked store, or a file that is not a store
  4  the store is damaged
  130 and 141 stand for an interrupt and for a closed output pipe`

const rootExample = `  kvctl put app.alder users alice '{"name": "Alice"}'
  kvctl get app.alder users alice
  kvctl scan app.alder users --prefix a --limit 10
  kvctl load src.alder go --dir "$(go env GOROOT)/src"
  kvctl dump app.alder | kvctl load copy.alder`

func newRootCommand(c *cli) *cobra.Command {
	root := &cobra.Command{
		Use:                        "kvctl COMMAND DB [BUCKET [KEY [VALUE]]]",
		Short:                      "Read and write alder stores",
		Long:                       rootLong,
		Example:                    rootExample,
		SilenceUsage:               true,
		SilenceErrors:              true,
		SuggestionsMinimumDistance: 2,
		Args:                       cobra.ArbitraryArgs, // so that RunE words the error for an unknown command
		RunE:                       c.runRoot,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		name := ""
		if cmd.HasParent() {
			name = cmd.Name() + ": "
		}
		return usageErrorf("%s%w; see %s --help", name, err, cmd.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.BoolVarP(&c.quiet, "quiet", "q", false, "print no progress, summaries or \"not found\"")
	flags.Var((*durationFlag)(&c.timeout), "timeout", "how long to wait for a locked store (0: not at all)")
	root.AddCommand(
		newPutCommand(c), newGetCommand(c), newDelCommand(c), newScanCommand(c), newCountCommand(c), newBucketsCommand(c),
		newLoadCommand(c), newDumpCommand(c),
		newInfoCommand(c), newStatsCommand(c), newCheckCommand(c),
		newCompactCommand(c), newShrinkCommand(c), newBackupCommand(c), newRestoreCommand(c), newSalvageCommand(c),
		newTortureCommand(c), newTortureWriterCommand(c),
		newVersionCommand(c), newManCommand(),
	)
	root.SetHelpCommand(newHelpCommand())
	return root
}

// runRoot runs when no command was named, or one that does not exist.
func (c *cli) runRoot(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		cmd.SetOut(c.stderr)
		if err := cmd.Help(); err != nil {
			return err
		}
		return errSilent{usageErrorf("no command")}
	}
	text := fmt.Sprintf("unknown command %q", args[0])
	if names := cmd.SuggestionsFor(args[0]); len(names) > 0 {
		text += "; did you mean " + strings.Join(names, " or ") + "?"
	} else {
		text += "; kvctl --help lists all"
	}
	return usageErrorf("%s", text)
}

// newHelpCommand is cobra's help command, except that an unknown topic is an error.
func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about a command",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usageErrorf("help: unknown command %q; kvctl --help lists all", strings.Join(args, " "))
			}
			topic.InitDefaultHelpFlag()
			return topic.Help()
		},
	}
}

// between returns a check of the number of arguments that names them as the command's usage line does.
func between(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if least <= len(args) && len(args) <= most {
			return nil
		}
		problem := "too few arguments"
		if len(args) > most {
			problem = fmt.Sprintf("unexpected argument %q", args[most])
		}
		return usageErrorf("%s: %s; the form is %s", cmd.Name(), problem, cmd.UseLine())
	}
}

// exclude returns an error if both flags were given.
func exclude(cmd *cobra.Command, a, b string) error {
	if cmd.Flags().Changed(a) && cmd.Flags().Changed(b) {
		return usageErrorf("%s: --%s and --%s exclude each other", cmd.Name(), a, b)
	}
	return nil
}

// addJSONFlag gives a command --json.
func (c *cli) addJSONFlag(cmd *cobra.Command, about string) {
	cmd.Flags().BoolVar(&c.json, "json", false, about)
}

// encodingFlag is a flag whose value is the name of an encoding.
type encodingFlag struct{ kvformat.Encoding }

func (f *encodingFlag) String() string { return string(f.Encoding) }
func (f *encodingFlag) Type() string   { return "encoding" }

func (f *encodingFlag) Set(name string) (err error) {
	f.Encoding, err = kvformat.ParseEncoding(name)
	return err
}

// addEncodingFlag adds a flag for an encoding to a command, with completion of its values.
func addEncodingFlag(cmd *cobra.Command, name string, standard kvformat.Encoding, about string) *encodingFlag {
	flag := &encodingFlag{standard}
	cmd.Flags().Var(flag, name, about+": "+strings.Join(kvformat.Encodings(), ", "))
	completeFlag(cmd, name, kvformat.Encodings())
	return flag
}

// addKeyFormatFlag adds --key-format, which is the same for every command that has it.
func addKeyFormatFlag(cmd *cobra.Command) *encodingFlag {
	return addEncodingFlag(cmd, "key-format", kvformat.Quoted, "how keys are written and printed")
}

// completeFlag offers the values of a flag to the shell.
func completeFlag(cmd *cobra.Command, flag string, values []string) {
	offer := func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return values, cobra.ShellCompDirectiveNoFileComp
	}
	if err := cmd.RegisterFlagCompletionFunc(flag, offer); err != nil {
		panic("kvctl: " + err.Error()) // only for a flag that does not exist
	}
}

// countFlag is a number of things. A number that no command line could mean is not shown as a default.
type countFlag uint64

const noLimit = countFlag(math.MaxUint64)

func (f *countFlag) Type() string { return "count" }

func (f *countFlag) String() string {
	if *f == noLimit {
		return ""
	}
	return strconv.FormatUint(uint64(*f), 10)
}

func (f *countFlag) Set(text string) error {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return errors.New("want a number, 0 or more")
	}
	*f = countFlag(n)
	return nil
}

// durationFlag is a time to wait.
type durationFlag time.Duration

func (f *durationFlag) Type() string { return "duration" }

func (f *durationFlag) String() string {
	if *f == 0 {
		return "0" // which the help text does not show as a default
	}
	return time.Duration(*f).String()
}

func (f *durationFlag) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return errors.New("want a time like 500ms, 30s or 5m")
	}
	*f = durationFlag(d)
	return nil
}

// sizeFlag is a number of bytes, with an optional unit.
type sizeFlag int64

func (f *sizeFlag) Type() string { return "size" }

func (f *sizeFlag) String() string {
	if *f == 0 {
		return "0" // which the help text does not show as a default
	}
	return strings.ReplaceAll(formatSize(int64(*f)), " ", "")
}

func (f *sizeFlag) Set(text string) error {
	n, err := parseSize(text)
	if err != nil {
		return err
	}
	*f = sizeFlag(n)
	return nil
}

var sizeUnits = []struct {
	name string
	size int64
}{
	{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}, {"B", 1},
}

// parseSize reads "4096", "64K" or "32MiB".
func parseSize(text string) (int64, error) {
	digits, factor := text, int64(1)
	for _, unit := range sizeUnits {
		if rest, ok := strings.CutSuffix(strings.ToLower(text), strings.ToLower(unit.name)); ok {
			digits, factor = rest, unit.size
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/factor {
		return 0, errors.New("want a size like 4096, 64KiB or 32MiB")
	}
	return n * factor, nil
}
