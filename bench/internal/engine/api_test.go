package engine

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/token"
	"go/types"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a program for bbolt can name is what one for alder can name, with the same types, but for this. README has a row for each.
var (
	apiMissing = []string{
		"Bucket.InBucket", "Bucket.InSequence", "Bucket.IncSequence", "Bucket.InlinePage", "Bucket.RootPage", "Bucket.SetInSequence",
		"Bucket.SetRootPage", "Bucket.String", // of a struct of bbolt's own that its Bucket embeds
		"DefaultLogger", "Logger", // *slog.Logger
		"TxStats.IncCursorCount", "TxStats.IncNodeCount", "TxStats.IncNodeDeref", "TxStats.IncPageAlloc", "TxStats.IncPageCount",
		"TxStats.IncRebalance", "TxStats.IncRebalanceTime", "TxStats.IncSpill", "TxStats.IncSpillTime", "TxStats.IncSplit",
		"TxStats.IncWrite", "TxStats.IncWriteTime",
	}
	apiDifferent = []string{
		"Bucket.Root: func() Pgid; func() uint64",
		"CheckOption: func(*checkConfig); func(*checker)", // made by the functions that both have
		"DB.Logger: func() Logger; func() *log/slog.Logger",
		"Options.Logger: Logger; *log/slog.Logger",
		"Tx.Check: func(...CheckOption) <-chan error; func(...CheckOption) iter.Seq[error]",
	}
)

// Ensures that every exported name, field, constant and signature of bbolt is in alder as it is in bbolt, with the differences that are
// meant, and no others; README names them.
func TestAPI_Bbolt(t *testing.T) {
	if testing.Short() {
		t.Skip("type-checks two libraries and what they import")
	}
	source := importer.ForCompiler(token.NewFileSet(), "source", nil).(types.ImporterFrom)
	dir, err := os.Getwd()
	require.NoError(t, err)
	exported := func(path string) map[string]string {
		pkg, err := source.ImportFrom(path, dir, 0)
		require.NoError(t, err)
		return exportedNames(pkg)
	}
	for _, p := range [][2]string{
		{"go.etcd.io/bbolt", "github.com/alderdb/alder"},
		{"go.etcd.io/bbolt/errors", "github.com/alderdb/alder/errors"},
	} {
		theirs, ours := exported(p[0]), exported(p[1])
		require.Greater(t, len(theirs), 15)
		var missing, different []string
		for _, name := range slices.Sorted(maps.Keys(theirs)) {
			got, ok := ours[name]
			switch {
			case !ok && !strings.HasPrefix(name, "DefaultLogger."):
				missing = append(missing, name)
			case ok && got != theirs[name]:
				different = append(different, fmt.Sprintf("%s: %s; %s", name, theirs[name], got))
			}
		}
		if p[1] == "github.com/alderdb/alder" {
			require.Equal(t, apiMissing, missing)
			require.Equal(t, apiDifferent, different)
		} else {
			require.Empty(t, append(missing, different...))
		}
	}
	readme, err := os.ReadFile("../../../README.md")
	require.NoError(t, err)
	for _, name := range []string{"`Logger`", "`DefaultLogger`", "`TxStats.Inc…`", "`InBucket`", "`Bucket.Root`", "`Tx.Check`"} {
		require.Contains(t, string(readme), name)
	}
}

// exportedNames returns what a program can name in pkg, each with its type.
func exportedNames(pkg *types.Package) map[string]string {
	names := map[string]string{}
	for _, name := range pkg.Scope().Names() {
		if !ast.IsExported(name) {
			continue
		}
		switch o := pkg.Scope().Lookup(name).(type) {
		case *types.Const:
			names[name] = o.Val().ExactString() + " " + typeText(o.Type())
		case *types.TypeName:
			s, ok := o.Type().Underlying().(*types.Struct)
			if !ok {
				names[name] = typeText(o.Type().Underlying())
			} else {
				names[name] = "struct"
				for i := range s.NumFields() {
					if f := s.Field(i); f.Exported() {
						names[name+"."+f.Name()] = typeText(f.Type()) + s.Tag(i)
					}
				}
			}
			methods := types.NewMethodSet(types.NewPointer(o.Type()))
			for i := range methods.Len() {
				if m := methods.At(i).Obj(); m.Exported() {
					names[name+"."+m.Name()] = typeText(m.Type())
				}
			}
		default:
			names[name] = typeText(o.Type())
		}
	}
	return names
}

// typeText is a type without the names of parameters, and without the packages of the two libraries.
func typeText(t types.Type) string {
	signature, ok := t.(*types.Signature)
	if !ok {
		return types.TypeString(t, func(p *types.Package) string {
			if strings.HasPrefix(p.Path(), "go.etcd.io/bbolt") || strings.HasPrefix(p.Path(), "github.com/alderdb/alder") {
				return ""
			}
			return p.Path()
		})
	}
	tuple := func(vars *types.Tuple) string {
		var texts []string
		for i := range vars.Len() {
			text := typeText(vars.At(i).Type())
			if rest, ok := strings.CutPrefix(text, "[]"); ok && signature.Variadic() && vars == signature.Params() && i == vars.Len()-1 {
				text = "..." + rest
			}
			texts = append(texts, text)
		}
		return strings.Join(texts, ", ")
	}
	text := "func(" + tuple(signature.Params()) + ")"
	switch results := tuple(signature.Results()); signature.Results().Len() {
	case 0:
		return text
	case 1:
		return text + " " + results
	default:
		return text + " (" + results + ")"
	}
}
