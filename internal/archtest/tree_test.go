package archtest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// module is the import path that all packages of the tree begin with.
const module = "github.com/pullonce/pullonce"

// A file is one parsed Go file of the tree.
type file struct {
	name   string // path below the root
	test   bool   // ends in _test.go
	dir    string
	ast    *ast.File
	fset   *token.FileSet
	inside []string // packages of this module that it imports, by their folder
	all    []string // everything that it imports
}

// generated tells whether a tool wrote the file.
func (f *file) generated() bool { return ast.IsGenerated(f.ast) }

// at is a node's place as file:line.
func (f *file) at(n ast.Node) string {
	return f.name + ":" + strconv.Itoa(f.fset.Position(n.Pos()).Line)
}

// parseTree parses every Go file of the module that tree is the root of. Folders with a go.mod of their own are other
// modules; testdata and hidden folders are not built.
func parseTree(tree fs.FS) ([]*file, error) {
	var files []*file
	fset := token.NewFileSet()
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return skip(tree, name)
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, newFile(name, parsed, fset))
		return nil
	})
	return files, err
}

func skip(tree fs.FS, dir string) error {
	base := path.Base(dir)
	if dir == "." {
		return nil
	}
	if base == "testdata" || base == "node_modules" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return fs.SkipDir
	}
	if _, err := fs.Stat(tree, path.Join(dir, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

func newFile(name string, parsed *ast.File, fset *token.FileSet) *file {
	f := &file{name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), ast: parsed, fset: fset}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has checked it
		}
		f.all = append(f.all, imported)
		if inside, ok := strings.CutPrefix(imported, module+"/"); ok {
			f.inside = append(f.inside, inside)
		}
	}
	return f
}
