package alder_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// House rules that the compiler does not know: who may use whom, which files are unsafe, what the command may
// import, and what the package exports.

var update = flag.Bool("update", false, "rewrite testdata/api.txt and testdata/unsafe.txt from the source")

const modulePath = "github.com/alderdb/alder"

// rooms lists the files of the package from the top of the house to its ground. A file uses only what is declared in
// files of lower rows, in itself, and in files of its own row that share a room: those in one string. Names stand
// for the files of every system: mmap for mmap_unix.go and mmap_windows.go too.
var rooms = [][]string{
	{"doc"},
	{"compact", "changes", "diff_apply", "salvage salvage_source salvage_walk salvage_orphans salvage_log"},
	{"db batch options recover db_readers db_space shrink shrink_walk shrink_move shrink_auto shrink_punch"},
	{"copy", "check damage", "inspect", "multiget", "diff diff_stream diff_write"},
	{"bucket bucket_nested bucket_children bucket_write bucket_buffer bucket_replay cursor cursor_ahead iter"}, // a cursor knows its bucket, which makes cursors
	{"tx tx_commit tx_share tx_run durability"},
	{"stats"},
	{"btree btree_put btree_delete btree_split btree_range btree_pack"},
	{"pager pager_open lines pager_space pager_shrink pager_holes snapshot background group redolog checkpoint feed create dirty unwritten readers readers_last cold attended"},
	{"record", "log"},
	{"workspace"},
	{"freelist freelist_map freelist_held freelist_lower freelist_pending freelist_holes"},
	{"meta", "pins"},
	{"page page_leaf page_branch page_validate page_window"},
	{"storage_file storage_open storage_private storage_fetch storage_attended", "storage_memory"},
	{"storage"},
	{"mmap lock sync place fetch punch ring", "fault"},
	{"errors"},
}

// upward are the uses of something above that are known, by user and used file, with what is used and why it is
// so. A use that is not listed fails the test, and so does one that is listed and gone.
var upward = map[string]struct{ names, why string }{
	"tx→db": {
		"DB pager MaxSize NoSync addTxStats", "Tx.DB is part of the API, and the store's live settings are fields of DB",
	},
	"tx_commit→db": {
		"NoSync addWriteTime StrictMode mustCheck opts", "the store's live settings are fields of DB",
	},
	"tx→bucket": {
		"Bucket bucketWriter init tree w", "a transaction's root is a bucket, as in bbolt",
	},
	"tx→bucket_buffer":         {"putBuffer release", "the memory for puts that are collected is the transaction's"},
	"tx_share→bucket_children": {"follow", "a transaction's root is a bucket, as in bbolt"},
	"tx_commit→bucket":         {"sequence tree", "a transaction's root is a bucket, as in bbolt"},
	"tx_commit→bucket_write":   {"flush", "a transaction's root is a bucket, as in bbolt"},
	"tx_commit→options":        {"NoStatistics", "the store's settings are fields of Options"},
	"tx→copy":                  {"copyLayout", "Tx.Size knows how long a copy would be"},
	"sync→storage_file":        {"writeZeros", "the portable way to reserve blocks"},
	"punch→storage_file":       {"writeZeros", "as above"},
}

// floor returns for each file name (without system and ending) the row from the ground, and the room.
func floors(t *testing.T) (row map[string]int, room map[string]string) {
	row, room = map[string]int{}, map[string]string{}
	for i, names := range rooms {
		for _, together := range names {
			for _, name := range strings.Fields(together) {
				require.NotContains(t, row, name, "%s has two places", name)
				row[name], room[name] = len(rooms)-i, together
			}
		}
	}
	return row, room
}

// base is the name of a file in the table of rooms.
func base(file string) string {
	name := strings.TrimSuffix(filepath.Base(file), ".go")
	for _, system := range []string{"_unix", "_windows", "_linux", "_darwin", "_bsd", "_other"} {
		name = strings.TrimSuffix(name, system)
	}
	return name
}

// systems are those for which the package is type-checked; between them they take in every file.
var systems = []struct{ os, arch string }{{"linux", "amd64"}, {"windows", "amd64"}, {"darwin", "arm64"}, {"freebsd", "386"}, {"aix", "ppc64"}}

// parsedPackage is the package as one system sees it.
type parsedPackage struct {
	fset  *token.FileSet
	files []*ast.File
	pkg   *types.Package
	info  *types.Info
}

// parseFor parses and type-checks the package for a system. Packages that it imports are those of this system, so for
// others some of their names are missing: such errors are passed over, which leaves the uses within the
// package known.
func parseFor(t *testing.T, imports types.Importer, system, arch string) *parsedPackage {
	t.Helper()
	ctx := build.Default
	ctx.GOOS, ctx.GOARCH, ctx.CgoEnabled = system, arch, false
	p := &parsedPackage{fset: token.NewFileSet(), info: &types.Info{Uses: map[*ast.Ident]types.Object{}}}
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		match, err := ctx.MatchFile(".", name)
		require.NoError(t, err)
		if !match {
			continue
		}
		file, err := parser.ParseFile(p.fset, name, nil, parser.ParseComments)
		require.NoError(t, err)
		p.files = append(p.files, file)
	}
	conf := types.Config{Importer: imports, Error: func(err error) {
		if system == build.Default.GOOS && arch == build.Default.GOARCH {
			t.Errorf("type check: %v", err)
		}
	}}
	p.pkg, _ = conf.Check(modulePath, p.fset, p.files, p.info)
	return p
}

// exportData imports packages from what the go command has compiled.
func exportData(t *testing.T) types.Importer {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go command")
	}
	if target, err := exec.Command("go", "env", "GOOS", "GOARCH").Output(); err != nil || string(target) != runtime.GOOS+"\n"+runtime.GOARCH+"\n" {
		t.Skipf("this test runs for %s/%s, the go command compiles for %q: %v", runtime.GOOS, runtime.GOARCH, target, err)
	}
	list := exec.Command("go", "list", "-export", "-deps", "-f", "{{if .Export}}{{.ImportPath}}={{.Export}}{{end}}", ".")
	list.Stderr = os.Stderr
	out, err := list.Output()
	require.NoError(t, err)
	exports := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "=")
		exports[path] = file
	}
	return importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("no export data of %s", path)
		}
		return os.Open(exports[path])
	})
}

// Ensures that every file uses only what stands below it: what the package would need to be split into packages, and
// what lets a reader read it from the ground up.
func TestHouse_Layers(t *testing.T) {
	t.Parallel()
	row, room := floors(t)
	imports := exportData(t)
	found, seen, used := map[string]string{}, map[string]bool{}, map[string]bool{}
	for _, s := range systems {
		p := parseFor(t, imports, s.os, s.arch)
		for _, f := range p.files {
			name := p.fset.Position(f.Pos()).Filename
			seen[name] = true
			require.Contains(t, row, base(name), "%s has no place in the table of rooms", name)
		}
		for id, obj := range p.info.Uses {
			if obj.Pkg() != p.pkg || !obj.Pos().IsValid() {
				continue
			}
			user, declared := p.fset.Position(id.Pos()), p.fset.Position(obj.Pos())
			from, to := base(user.Filename), base(declared.Filename)
			if from == to || room[from] == room[to] || row[from] > row[to] {
				continue
			}
			if known := from + "→" + to; slices.Contains(strings.Fields(upward[known].names), obj.Name()) {
				used[known+" "+obj.Name()] = true
				continue
			}
			found[fmt.Sprintf("%s uses %s of %s", user.Filename, obj.Name(), declared.Filename)] = user.String()
		}
	}
	for known, u := range upward {
		for name := range strings.FieldsSeq(u.names) {
			require.True(t, used[known+" "+name], "%s %s: no longer so; take it out of the list", known, name)
		}
	}
	for _, what := range slices.Sorted(maps.Keys(found)) {
		t.Errorf("%s (%s)", what, found[what])
	}
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	for _, name := range names {
		if !strings.HasSuffix(name, "_test.go") {
			require.True(t, seen[name], "%s belongs to none of the systems that are looked at", name)
		}
	}
	for name := range row {
		require.True(t, slices.ContainsFunc(slices.Collect(maps.Keys(seen)), func(f string) bool { return base(f) == name }) || name == "doc",
			"%s stands in the table of rooms and is no file", name)
	}
}

// moduleFiles calls fn for each file of the module below root that has that ending.
func moduleFiles(t *testing.T, root, ending string, fn func(path string)) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			name := d.Name()
			_, modErr := os.Stat(filepath.Join(path, "go.mod"))
			if path != "." && (strings.HasPrefix(name, ".") || name == "testdata" || modErr == nil) {
				return fs.SkipDir // hidden, data, or a module of its own
			}
			return nil
		}
		if strings.HasSuffix(path, ending) {
			fn(path)
		}
		return nil
	}))
}

// sourceFiles calls fn for each Go file of the module that is not a test, with its imports.
func sourceFiles(t *testing.T, root string, fn func(path string, imports []string)) {
	t.Helper()
	fset := token.NewFileSet()
	moduleFiles(t, root, ".go", func(path string) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		file, err := parser.ParseFile(fset, path, nil, parser.ImportsOnly)
		require.NoError(t, err)
		var imports []string
		for _, spec := range file.Imports {
			imports = append(imports, strings.Trim(spec.Path.Value, `"`))
		}
		fn(filepath.ToSlash(path), imports)
	})
}

// compareList holds lines against a file of testdata, or rewrites it.
func compareList(t *testing.T, file string, lines []string) {
	t.Helper()
	text := strings.Join(lines, "\n") + "\n"
	if *update {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		return
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	listed := strings.Split(strings.TrimSuffix(string(want), "\n"), "\n")
	for _, line := range lines {
		if !slices.Contains(listed, line) {
			t.Errorf("not in %s: %s", file, line)
		}
	}
	for _, line := range listed {
		if !slices.Contains(lines, line) {
			t.Errorf("only in %s: %s", file, line)
		}
	}
	if t.Failed() {
		t.Logf("if that is meant: go test -run '^%s$' -update .", t.Name())
	}
}

// Ensures that unsafe and assembly stay in the files that are known to need them.
func TestHouse_Unsafe(t *testing.T) {
	var found []string
	moduleFiles(t, ".", ".s", func(path string) { found = append(found, filepath.ToSlash(path)) })
	sourceFiles(t, ".", func(path string, imports []string) {
		if slices.Contains(imports, "unsafe") {
			found = append(found, path)
		}
	})
	slices.Sort(found)
	compareList(t, "testdata/unsafe.txt", found)
}

// Ensures that kvctl imports only what any program could, besides what lies within it and the packages that it
// shares with other tools of this module.
func TestHouse_KvctlImports(t *testing.T) {
	allowed := []string{
		modulePath,
		modulePath + "/errors",
		modulePath + "/internal/kvformat",
		modulePath + "/internal/killtest",
		modulePath + "/internal/kvpath",
		modulePath + "/cmd/kvctl/",
		"github.com/spf13/cobra",
		"github.com/spf13/pflag",
		"github.com/schollz/progressbar/v3",
		"golang.org/x/sys/",
		"golang.org/x/term",
	}
	files := 0
	sourceFiles(t, filepath.Join("cmd", "kvctl"), func(path string, imports []string) {
		files++
		for _, name := range imports {
			first, _, _ := strings.Cut(name, "/")
			if !strings.Contains(first, ".") && name != "unsafe" {
				continue // the standard library
			}
			require.True(t, slices.ContainsFunc(allowed, func(a string) bool {
				return name == a || strings.HasSuffix(a, "/") && strings.HasPrefix(name, a) || strings.HasPrefix(name, a+"/") && !strings.HasPrefix(a, modulePath)
			}), "%s imports %s", path, name)
		}
	})
	require.Positive(t, files)
}

// Ensures that the store itself needs no other module than those named here.
func TestHouse_Imports(t *testing.T) {
	sourceFiles(t, ".", func(path string, imports []string) {
		if strings.Contains(path, "/") {
			return
		}
		for _, name := range imports {
			first, _, _ := strings.Cut(name, "/")
			require.True(t, !strings.Contains(first, ".") || name == "github.com/cespare/xxhash/v2" || strings.HasPrefix(name, "golang.org/x/sys/") || strings.HasPrefix(name, modulePath+"/internal/"),
				"%s imports %s", path, name)
		}
	})
}

// Ensures that what the package exports changes only knowingly.
func TestHouse_API(t *testing.T) {
	p := parseFor(t, exportData(t), build.Default.GOOS, build.Default.GOARCH)
	qualify := func(other *types.Package) string {
		if other == p.pkg {
			return ""
		}
		return other.Path()
	}
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	scope := p.pkg.Scope()
	for _, name := range scope.Names() {
		obj := scope.Lookup(name)
		if !obj.Exported() {
			continue
		}
		switch obj := obj.(type) {
		case *types.Const:
			add("const %s %s = %s", name, types.TypeString(obj.Type(), qualify), obj.Val())
		case *types.Var:
			add("var %s %s", name, types.TypeString(obj.Type(), qualify))
		case *types.Func:
			add("func %s%s", name, signature(obj.Signature(), qualify))
		case *types.TypeName:
			lines = append(lines, typeLines(obj, qualify)...)
		}
	}
	slices.Sort(lines)
	compareList(t, "testdata/api.txt", lines)
}

// typeLines describes a type with its exported fields and methods, one a line.
func typeLines(obj *types.TypeName, qualify types.Qualifier) (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	name := obj.Name()
	switch under := obj.Type().Underlying().(type) {
	case *types.Struct:
		add("type %s struct", name)
		for field := range under.Fields() {
			if field.Exported() {
				add("type %s struct, %s %s", name, field.Name(), types.TypeString(field.Type(), qualify))
			}
		}
	case *types.Interface:
		add("type %s interface", name)
		for method := range under.Methods() {
			add("type %s interface, %s%s", name, method.Name(), signature(method.Signature(), qualify))
		}
		return lines
	default:
		add("type %s %s", name, types.TypeString(under, qualify))
	}
	for method := range types.NewMethodSet(types.NewPointer(obj.Type())).Methods() {
		if fn := method.Obj().(*types.Func); fn.Exported() {
			receiver := types.TypeString(fn.Signature().Recv().Type(), qualify)
			add("method (%s) %s%s", receiver, fn.Name(), signature(fn.Signature(), qualify))
		}
	}
	return lines
}

// signature is a function's type without the names of parameters and results, which may change freely.
func signature(sig *types.Signature, qualify types.Qualifier) string {
	bare := func(tuple *types.Tuple) *types.Tuple {
		var vars []*types.Var
		for v := range tuple.Variables() {
			vars = append(vars, types.NewParam(token.NoPos, nil, "", v.Type()))
		}
		return types.NewTuple(vars...)
	}
	plain := types.NewSignatureType(nil, nil, nil, bare(sig.Params()), bare(sig.Results()), sig.Variadic())
	return strings.TrimPrefix(types.TypeString(plain, qualify), "func")
}
