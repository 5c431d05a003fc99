package archtest_test

import (
	"go/ast"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// namedTest is a test as documents name it: `folder: TestName`, or `TestName` of the folder that was named last in the line,
// or of any where none was.
var namedTest = regexp.MustCompile("`(?:([a-z0-9/_-]+): )?((?:Test|Fuzz|Benchmark)[A-Z][A-Za-z0-9_]*)`")

// TestEveryTestThatADocumentNamesExists: a claim that names its proof has one.
func TestEveryTestThatADocumentNamesExists(t *testing.T) {
	root := os.DirFS("../..")
	files, err := parseTree(root)
	if err != nil {
		t.Fatal(err)
	}
	there := testsOf(files)
	named := 0
	for _, document := range documents(t, root) {
		text, err := fs.ReadFile(root, document)
		if err != nil {
			t.Fatal(err)
		}
		for number, line := range strings.Split(string(text), "\n") {
			folder := ""
			for _, found := range namedTest.FindAllStringSubmatch(line, -1) {
				if named++; found[1] != "" {
					folder = found[1]
				}
				if !there[folder+": "+found[2]] {
					t.Errorf("%s:%d names a test that there is not: %q of %q", document, number+1, found[2], folder)
				}
			}
		}
	}
	if named < 100 {
		t.Errorf("%d tests are named in documents; want those of the promises and of security at least", named)
	}
}

// documents are the paths of all texts for people.
func documents(t *testing.T, root fs.FS) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/adr/*.md"} {
		found, err := fs.Glob(root, pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	if !slices.Contains(all, "docs/security.md") || !slices.Contains(all, "README.md") {
		t.Fatalf("documents are %q; want docs/security.md and README.md among them", all)
	}
	return all
}

// testsOf are the tests of each folder, as "folder: TestName" and as ": TestName".
func testsOf(files []*file) map[string]bool {
	tests := map[string]bool{}
	for _, f := range files {
		if !f.test {
			continue
		}
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil {
				tests[f.dir+": "+fn.Name.Name], tests[": "+fn.Name.Name] = true, true
			}
		}
	}
	return tests
}
