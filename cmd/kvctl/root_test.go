package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "17": 17, "17B": 17, "4K": 4096, "4k": 4096, "4KiB": 4096, "32 MiB": 32 << 20, "1g": 1 << 30,
		"9223372036854775807": 1<<63 - 1, "8589934591G": (1<<63 - 1) >> 30 << 30,
	} {
		got, err := parseSize(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "-1", "K", "1.5K", "4 T", "12abc", "9223372036854775808", "8589934592G"} {
		_, err := parseSize(text)
		require.Error(t, err, text)
	}
}

// Ensures that a size is printed so that it can be given back, as the help text does with defaults.
func TestFormatSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 32 << 20: "32 MiB", 5 << 30: "5 GiB"} {
		require.Equal(t, want, formatSize(n))
	}
	require.Equal(t, "1,234,567", grouped(1234567))
	require.Equal(t, "999", grouped(999))
	require.Equal(t, "1 key", counted(1, "key"))
	require.Equal(t, "1,000 keys", counted(1000, "key"))
}

// Ensures that every command can be learned from its help: a summary, a description, examples that name it, and text for
// each flag.
func TestCommands_AreDocumented(t *testing.T) {
	for _, cmd := range newRootCommand(&cli{}).Commands() {
		require.NotEmpty(t, cmd.Short, cmd.Name())
		if cmd.Name() == "help" || cmd.Hidden {
			continue
		}
		require.Contains(t, cmd.Example, "kvctl "+cmd.Name(), cmd.Name())
		if cmd.Name() != "version" {
			require.NotEmpty(t, cmd.Long, cmd.Name())
		}
		cmd.Flags().VisitAll(func(flag *pflag.Flag) {
			require.NotEmpty(t, flag.Usage, "%s --%s", cmd.Name(), flag.Name)
			require.False(t, strings.HasSuffix(flag.Usage, "."), "%s --%s", cmd.Name(), flag.Name)
		})
	}
}

// Ensures that flags of one name mean one thing: they have the same type wherever they appear.
func TestCommands_FlagsAgree(t *testing.T) {
	types := map[string]string{}
	for _, cmd := range newRootCommand(&cli{}).Commands() {
		cmd.LocalFlags().VisitAll(func(flag *pflag.Flag) {
			name := flag.Name
			if name == "format" && isTextFormat(cmd) {
				name = "format of a whole text"
			}
			if known, ok := types[name]; ok {
				require.Equal(t, known, flag.Value.Type(), "%s --%s", cmd.Name(), flag.Name)
			}
			types[name] = flag.Value.Type()
		})
	}
}

// isTextFormat: load and dump have formats of whole texts where the other commands have encodings of single values.
func isTextFormat(cmd *cobra.Command) bool { return cmd.Name() == "load" || cmd.Name() == "dump" }

func TestSplitLastSlash(t *testing.T) {
	for text, want := range map[string][2]string{
		"": {"", ""}, "a": {"", "a"}, "a/": {"a", ""}, "a/b": {"a", "b"}, `a\/b`: {"", `a\/b`}, `a\\/b`: {`a\\`, "b"}, `a/b\/c`: {"a", `b\/c`},
	} {
		outer, last := splitLastSlash(text)
		require.Equal(t, want, [2]string{outer, last}, text)
	}
}
