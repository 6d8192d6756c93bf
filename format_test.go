package alder

import (
	"errors"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// formatFiles are those whose constants are the file format.
var formatFiles = []string{"page.go", "page_leaf.go", "page_branch.go", "page_validate.go", "meta.go", "freelist.go", "log.go", "record.go"}

// notFormat are constants of those files that say nothing about bytes in a store.
var notFormat = []string{"_", "maxKeptRecord", "logged"}

// formatConstants returns the values of all package-level constants of formatFiles, and of the limits that other files export.
func formatConstants(t *testing.T) map[string]int64 {
	t.Helper()
	fset := token.NewFileSet()
	var files []*ast.File
	inFormat := map[string]bool{"MaxKeySize": true, "MaxValueSize": true}
	for _, name := range append([]string{"bucket.go"}, formatFiles...) {
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		files = append(files, f)
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST && name != "bucket.go" {
				for _, s := range g.Specs {
					for _, id := range s.(*ast.ValueSpec).Names {
						inFormat[id.Name] = true
					}
				}
			}
		}
	}
	// Constants need no imports and no other files; what else does not type-check without them does not matter.
	config := types.Config{Importer: noImports{}, Error: func(error) {}}
	pkg, _ := config.Check("alder", fset, files, nil)
	values := map[string]int64{}
	for name := range inFormat {
		if slices.Contains(notFormat, name) {
			continue
		}
		c, ok := pkg.Scope().Lookup(name).(*types.Const)
		require.True(t, ok, "%s is not a constant", name)
		v, ok := constant.Int64Val(constant.ToInt(c.Val()))
		require.True(t, ok, "%s is %v", name, c.Val())
		values[name] = v
	}
	return values
}

type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, errors.New("not needed") }

// formatTable is a table of docs/format.md.
type formatTable struct {
	line    int
	columns []string
	rows    [][]string
}

func (f *formatTable) column(name string) int {
	for i, c := range f.columns {
		if c == name {
			return i
		}
	}
	return -1
}

// formatTables parses the tables of a document.
func formatTables(text string) []formatTable {
	var all []formatTable
	inside := false
	for i, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "|") {
			inside = false
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for j := range cells {
			cells[j] = strings.TrimSpace(cells[j])
		}
		switch {
		case !inside:
			all = append(all, formatTable{line: i + 1, columns: cells})
			inside = true
		case strings.HasPrefix(line, "|---"):
		default:
			f := &all[len(all)-1]
			f.rows = append(f.rows, cells)
		}
	}
	return all
}

// Ensures that docs/format.md and the code say the same: each number in a table or in the text that names a constant is its value,
// the fields of a layout follow each other without gaps, and every constant of the format is there.
func TestFormatDocument(t *testing.T) {
	data, err := os.ReadFile("docs/format.md")
	require.NoError(t, err)
	text := strings.ReplaceAll(string(data), "\r\n", "\n")
	values := formatConstants(t)
	missing := map[string]bool{}
	for name := range values {
		missing[name] = true
	}
	use := func(name string, number int64, where string) {
		v, ok := values[name]
		require.True(t, ok, "%s: there is no constant %s", where, name)
		require.Equal(t, v, number, "%s: %s", where, name)
		delete(missing, name)
	}

	for _, table := range formatTables(text) {
		where := "docs/format.md, table at line " + strconv.Itoa(table.line)
		named := table.column("constant")
		if named < 0 {
			continue
		}
		at := max(table.column("value"), 0)
		size := table.column("size")
		layout := table.columns[0] == "offset"
		next := int64(-1)
		for i, row := range table.rows {
			require.Len(t, row, len(table.columns), "%s, row %d", where, i+1)
			number, err := strconv.ParseInt(row[at], 10, 64)
			require.NoError(t, err, "%s, row %d", where, i+1)
			if name := strings.Trim(row[named], "`"); name != "" {
				use(name, number, where)
			}
			if !layout {
				continue
			}
			if next >= 0 {
				require.Equal(t, next, number, "%s, row %d: offset", where, i+1)
			}
			if row[size] == "" {
				require.Len(t, table.rows, i+1, "%s: the end comes last", where)
				continue
			}
			n, err := strconv.ParseInt(row[size], 10, 64)
			require.NoError(t, err, "%s, row %d", where, i+1)
			next = number + n
		}
		if c := table.column("bytes before the key"); c >= 0 {
			require.Len(t, table.rows, leafFlagsMask+1, where)
			for flags, row := range table.rows {
				require.Equal(t, strconv.Itoa(flags), row[at], where)
				require.Equal(t, strconv.Itoa(cellHeader(uint8(flags))), row[c], "%s: flags %d", where, flags)
			}
		}
	}

	// Numbers in the text: "at most 255 (`maxOwnerHost`)".
	for _, m := range regexp.MustCompile("([0-9][0-9,]*)(?: bytes)? \\(`([A-Za-z]+)`\\)").FindAllStringSubmatch(text, -1) {
		number, err := strconv.ParseInt(strings.ReplaceAll(m[1], ",", ""), 10, 64)
		require.NoError(t, err)
		use(m[2], number, "docs/format.md: "+m[0])
	}
	require.Empty(t, missing, "constants of the format that docs/format.md does not have")
}

// Ensures what the tables cannot say: sizes that other sizes make up, the magic, and the text of a store in the making.
func TestFormatDocument_Text(t *testing.T) {
	data, err := os.ReadFile("docs/format.md")
	require.NoError(t, err)
	require.Equal(t, "alderkv\x00", string(metaMagic[:]))
	require.Contains(t, string(data), "`alderkv` and a zero byte")
	require.Equal(t, "alder store in creation\n", string(creationMarker[:]))
	require.Contains(t, string(data), "`alder store in creation` and a line feed")
	require.Equal(t, 512<<10, initialPages*maxPageSize)
	require.Contains(t, string(data), "at most 512 KiB of nothing but zeros")
	require.Equal(t, pgid(4), initialRoot+1)
	require.Contains(t, string(data), "no map: levels, root and free pages are 0 in its meta,\nand the mark is 4.")
	require.Equal(t, (4096-64)*8, mapSpan(4096))
	require.Equal(t, (4096-64)/20, mapFanout(4096))
	var bucket [bucketHeader]byte
	require.Len(t, encodeBucket(&tree{}, 0), len(bucket))
	stored := make([]byte, inlinePrefix+refSize)
	overflowRef{pageRef{1<<40 | 2, 1<<40 | 3}, 1<<30 | 4}.store(stored[inlinePrefix:])
	require.Equal(t, []byte{2, 0, 0, 0, 0, 1, 3, 0, 0, 0, 0, 1, 4, 0, 0, 1 << 6}, stored[inlinePrefix:])
}
