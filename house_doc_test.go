package alder_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Ensures that every exported name of the packages that programs import has a comment: each function, method, type, constant and variable,
// and each field of a struct, where a comment above a block of fields counts for the whole block.
func TestHouse_Documented(t *testing.T) {
	var missing []string
	seen := 0
	for _, dir := range []string{".", "errors", "metrics", "metrics/expvars", "prometheus"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
			require.NoError(t, err)
			check := func(name *ast.Ident, comments ...*ast.CommentGroup) {
				if !name.IsExported() {
					return
				}
				seen++
				for _, c := range comments {
					if c.Text() != "" {
						return
					}
				}
				missing = append(missing, fmt.Sprintf("%v: %s", set.Position(name.Pos()), name.Name))
			}
			for _, d := range file.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					if receiver(d) == nil || receiver(d).IsExported() {
						check(d.Name, d.Doc)
					}
				case *ast.GenDecl:
					for _, s := range d.Specs {
						switch s := s.(type) {
						case *ast.TypeSpec:
							check(s.Name, s.Doc, d.Doc)
							if fields, ok := s.Type.(*ast.StructType); ok && s.Name.IsExported() {
								checkFields(set, fields, check)
							}
						case *ast.ValueSpec:
							for _, name := range s.Names {
								check(name, s.Doc, s.Comment, d.Doc)
							}
						}
					}
				}
			}
		}
	}
	require.Empty(t, missing, "exported names without a comment")
	require.Greater(t, seen, 300)
}

// receiver is the type that a method belongs to; nil for a function.
func receiver(d *ast.FuncDecl) *ast.Ident {
	if d.Recv == nil {
		return nil
	}
	expr := d.Recv.List[0].Type
	if star, ok := expr.(*ast.StarExpr); ok {
		expr = star.X
	}
	name, _ := expr.(*ast.Ident)
	return name
}

// checkFields checks the fields of a struct. A field that follows another one without an empty line is of its block.
func checkFields(set *token.FileSet, fields *ast.StructType, check func(*ast.Ident, ...*ast.CommentGroup)) {
	var block *ast.CommentGroup
	last := 0
	for _, f := range fields.Fields.List {
		if f.Doc != nil || set.Position(f.Pos()).Line > last+1 {
			block = f.Doc
		}
		last = set.Position(f.End()).Line
		for _, name := range f.Names {
			check(name, block, f.Comment)
		}
	}
}
