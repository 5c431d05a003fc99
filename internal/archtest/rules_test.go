package archtest_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"sort"
	"strings"
)

// meaningless are package names that say nothing of what is inside.
var meaningless = []string{"util", "utils", "common", "types", "pkg", "helper", "helpers", "misc", "shared", "base", "lib"}

// naming finds folders whose name holds nothing.
func naming(files []*file) []string {
	found := map[string]bool{}
	for _, f := range files {
		for element := range strings.SplitSeq(f.dir, "/") {
			if slices.Contains(meaningless, element) {
				found[fmt.Sprintf("%s: %q is no name for a package", f.dir, element)] = true
			}
		}
		if name := f.ast.Name.Name; slices.Contains(meaningless, name) {
			found[fmt.Sprintf("%s: %q is no name for a package", f.dir, name)] = true
		}
	}
	return sorted(found)
}

// documented finds packages without a doc comment, and doc comments that do not start with the package's name.
func documented(files []*file) []string {
	found := map[string]bool{}
	docs := map[string]string{}
	for _, f := range files {
		if f.ast.Doc != nil && !f.generated() {
			docs[f.dir] += f.ast.Doc.Text()
		}
	}
	for _, f := range files {
		if f.generated() {
			continue
		}
		want := "Package " + strings.TrimSuffix(f.ast.Name.Name, "_test")
		if f.ast.Name.Name == "main" {
			want = "Command " + path.Base(f.dir)
		}
		switch doc := docs[f.dir]; {
		case doc == "":
			found[fmt.Sprintf("%s: the package has no doc comment", f.dir)] = true
		case !f.test && !strings.HasPrefix(doc, want+" "):
			found[fmt.Sprintf("%s: the doc comment does not start with %q", f.dir, want)] = true
		}
	}
	return sorted(found)
}

// inits finds functions that run by themselves.
func inits(files []*file) []string {
	var found []string
	for _, f := range files {
		if f.generated() {
			continue
		}
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				found = append(found, f.at(fn)+": func init")
			}
		}
	}
	return found
}

// A ban forbids names of a package in some folders.
type ban struct {
	pkg    string
	names  []string
	except []string // folders that may
	why    string
}

var bans = []ban{
	{"context", []string{"Background", "TODO"}, []string{"cmd", "scripts", "test", "internal"}, "Background appears in main and nowhere below"},
	{
		"log/slog",
		[]string{"Debug", "Info", "Warn", "Error", "Log", "LogAttrs", "Default", "SetDefault", "DebugContext", "InfoContext", "WarnContext", "ErrorContext"},
		nil, "the logger is handed in",
	},
	{"os", []string{"Getenv", "LookupEnv", "Environ"}, []string{"config", "cmd", "scripts", "test", "internal"}, "nothing below config reads the environment"},
	{"net/http", []string{"ProxyFromEnvironment"}, []string{"cmd", "scripts", "test", "internal"}, "nothing below config reads the environment"},
	{"os", []string{"Exit"}, []string{"cmd", "scripts", "test", "internal"}, "only main ends the program"},
}

// banned finds uses of what the rules of the house forbid. Tests may.
func banned(files []*file) []string {
	var found []string
	for _, f := range files {
		if f.test || f.generated() {
			continue
		}
		for _, b := range bans {
			if within(f.dir, b.except) {
				continue
			}
			found = append(found, f.uses(b)...)
		}
	}
	return found
}

// uses are the places where the file uses names of a ban.
func (f *file) uses(b ban) []string {
	local := f.localName(b.pkg)
	if local == "" {
		return nil
	}
	var found []string
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && b.pkg == "context" && logs(call) {
			return false // a line in the log is part of no request when a library calls back without a context
		}
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := s.X.(*ast.Ident); ok && x.Name == local && slices.Contains(b.names, s.Sel.Name) {
			found = append(found, fmt.Sprintf("%s: %s.%s: %s", f.at(s), local, s.Sel.Name, b.why))
		}
		return true
	})
	return found
}

// logs tells whether a call hands a context to a logger.
func logs(call *ast.CallExpr) bool {
	s, ok := call.Fun.(*ast.SelectorExpr)
	return ok && slices.Contains([]string{"LogAttrs", "Enabled", "Handle"}, s.Sel.Name)
}

// localName is the name by which the file calls a package, or "" when it does not import it.
func (f *file) localName(pkg string) string {
	for _, spec := range f.ast.Imports {
		if spec.Path.Value != `"`+pkg+`"` {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(pkg)
	}
	return ""
}

// pureRooms do no I/O, read no clock and start nothing.
var pureRooms = []string{"swarm", "oci", "piece", "ring"}

// impure finds network, files and goroutines in rooms that are pure logic, and clocks and locks in swarm.
func impure(files []*file) []string {
	var found []string
	for _, f := range files {
		if f.test || !within(f.dir, pureRooms) {
			continue
		}
		for _, imported := range f.all {
			top, _, _ := strings.Cut(imported, "/")
			if slices.Contains([]string{"net", "os", "syscall"}, top) || f.dir == "swarm" && (imported == "sync" || imported == "context") {
				found = append(found, fmt.Sprintf("%s: imports %s, but %s is pure", f.name, imported, f.dir))
			}
		}
		found = append(found, f.uses(ban{"time", []string{"Now", "Since", "Sleep", "After", "NewTimer", "NewTicker", "Tick"}, nil, f.dir + " is pure"})...)
		if f.dir == "swarm" {
			found = append(found, f.starts()...)
		}
	}
	return found
}

// starts are the file's go statements and channels.
func (f *file) starts() []string {
	var found []string
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n.(type) {
		case *ast.GoStmt, *ast.ChanType:
			found = append(found, f.at(n)+": no goroutine and no channel belongs here")
		}
		return true
	})
	return found
}

// testing finds the package testing in what is built into the product.
func testingOutside(files []*file) []string {
	var found []string
	for _, f := range files {
		if f.test || roomOf(f.dir) == "internal" || strings.HasSuffix(f.dir, "test") {
			continue
		}
		if slices.Contains(f.all, "testing") {
			found = append(found, f.name+": imports testing")
		}
	}
	return found
}

// changing finds package variables that code of the package assigns to.
func changing(files []*file) []string {
	vars := map[string]map[string]bool{}
	for _, f := range files {
		if f.test || f.generated() {
			continue
		}
		for _, decl := range f.ast.Decls {
			if g, ok := decl.(*ast.GenDecl); ok && g.Tok == token.VAR {
				for _, spec := range g.Specs {
					for _, name := range spec.(*ast.ValueSpec).Names {
						if name.Name == "_" {
							continue
						}
						if vars[f.dir] == nil {
							vars[f.dir] = map[string]bool{}
						}
						vars[f.dir][name.Name] = true
					}
				}
			}
		}
	}
	var found []string
	for _, f := range files {
		if !f.test && !f.generated() {
			found = append(found, f.assigned(vars[f.dir])...)
		}
	}
	return found
}

// assigned are the places where the file sets package variables that no name nearer by hides.
func (f *file) assigned(vars map[string]bool) []string {
	var found []string
	for _, decl := range f.ast.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		local := names(fn)
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			a, ok := n.(*ast.AssignStmt)
			if !ok || a.Tok == token.DEFINE {
				return true
			}
			for _, left := range a.Lhs {
				if x, ok := left.(*ast.Ident); ok && vars[x.Name] && !local[x.Name] {
					found = append(found, fmt.Sprintf("%s: package variable %s changes", f.at(a), x.Name))
				}
			}
			return true
		})
	}
	return found
}

// names are all that a function declares anywhere in itself.
func names(fn *ast.FuncDecl) map[string]bool {
	local := map[string]bool{}
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			for _, name := range n.Names {
				local[name.Name] = true
			}
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				for _, left := range n.Lhs {
					if x, ok := left.(*ast.Ident); ok {
						local[x.Name] = true
					}
				}
			}
		case *ast.ValueSpec:
			for _, name := range n.Names {
				local[name.Name] = true
			}
		case *ast.RangeStmt:
			for _, x := range []ast.Expr{n.Key, n.Value} {
				if id, ok := x.(*ast.Ident); ok {
					local[id.Name] = true
				}
			}
		}
		return true
	})
	return local
}

func sorted(set map[string]bool) []string {
	list := make([]string, 0, len(set))
	for s := range set {
		list = append(list, s)
	}
	sort.Strings(list)
	return list
}
