package archtest_test

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// rules are what every file of the tree is held to.
var rules = []struct {
	name  string
	check func([]*file) []string
}{
	{"imports point down", layering},
	{"packages are named for what they hold", naming},
	{"every package has a doc comment", documented},
	{"nothing runs by itself", inits},
	{"loggers, contexts and the environment are handed down", banned},
	{"pure rooms are pure", impure},
	{"testing stays in tests", testingOutside},
	{"package variables do not change", changing},
}

func TestTheCodeBaseStandsAsItIsDrawn(t *testing.T) {
	root := os.DirFS("../..")
	if _, err := fs.Stat(root, "go.mod"); err != nil {
		t.Fatal(err)
	}
	files, err := parseTree(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, room := range []string{"oci", "piece", "swarm", "ring", "blobstore", "transfer", "upstream", "gossip", "registryapi", "node", "cmd/p2pd"} {
		if !slices.ContainsFunc(files, func(f *file) bool { return f.dir == room }) {
			t.Errorf("no file of %s was found", room)
		}
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, violation := range r.check(files) {
				t.Error(violation)
			}
		})
	}
}

func TestEachRuleFindsWhatBreaksIt(t *testing.T) {
	for _, c := range []struct {
		name, file, text string
		check            func([]*file) []string
		want             string // "" when the file is right
	}{
		{"down", "transfer/a.go", `import "github.com/pullonce/pullonce/swarm"`, layering, ""},
		{"up", "swarm/a.go", `import "github.com/pullonce/pullonce/transfer"`, layering, "swarm may import piece"},
		{"up from a mover", "upstream/a.go", `import "github.com/pullonce/pullonce/node"`, layering, "never point up"},
		{"sideways", "transfer/a.go", `import "github.com/pullonce/pullonce/upstream"`, layering, "never point sideways"},
		{"up from a test", "oci/a_test.go", `import "github.com/pullonce/pullonce/blobstore"`, layering, "never point up"},
		{"within a room", "blobstore/a_test.go", `import "github.com/pullonce/pullonce/blobstore/blobstoretest"`, layering, ""},
		{"suite in the product", "blobstore/a.go", `import "github.com/pullonce/pullonce/blobstore/blobstoretest"`, layering, "for tests"},
		{"proto in node", "node/a.go", `import p "github.com/pullonce/pullonce/proto/transfer"`, layering, "generated types stop"},
		{"proto in transfer", "transfer/a.go", `import p "github.com/pullonce/pullonce/proto/transfer"`, layering, ""},
		{"stand-in in the product", "upstream/a.go", `import "github.com/pullonce/pullonce/internal/hub"`, layering, "test support"},
		{"stand-in in a test", "upstream/a_test.go", `import "github.com/pullonce/pullonce/internal/hub"`, layering, ""},
		{"version anywhere", "adminapi/a.go", `import "github.com/pullonce/pullonce/internal/version"`, layering, ""},
		{"helper that imports node", "internal/hub/a.go", `import "github.com/pullonce/pullonce/node"`, layering, "may import oci"},
		{"farm that imports node", "internal/testfarm/a.go", `import "github.com/pullonce/pullonce/node"`, layering, ""},
		{"command in a command", "cmd/p2pctl/a.go", `import "github.com/pullonce/pullonce/cmd/p2pd"`, layering, "no other command"},
		{"client with a node", "cmd/p2pctl/a.go", `import "github.com/pullonce/pullonce/node"`, layering, "cmd/p2pctl may import"},
		{"new room", "cache/a.go", `import "github.com/pullonce/pullonce/oci"`, layering, "no room of the drawing"},
		{"util", "oci/util/a.go", ``, naming, "no name for a package"},
		{"no doc", "oci/a.go", ``, documented, "no doc comment"},
		{"init", "oci/a.go", `func init() {}`, inits, "func init"},
		{"method init", "oci/a.go", `type a int; func (a) init() {}`, inits, ""},
		{"background", "node/a.go", `import "context"; var c = context.Background()`, banned, "Background appears"},
		{"background of a log line", "gossip/a.go", `import "context"; func (g *G) f() { g.log.LogAttrs(context.Background(), 0, "x") }`, banned, ""},
		{"global logger", "node/a.go", `import "log/slog"; func f() { slog.Info("x") }`, banned, "handed in"},
		{"environment", "upstream/a.go", `import o "os"; var c = o.Getenv("X")`, banned, "reads the environment"},
		{"clock in swarm", "swarm/a.go", `import "time"; var c = time.Now()`, impure, "swarm is pure"},
		{"goroutine in swarm", "swarm/a.go", `func f() { go f() }`, impure, "no goroutine"},
		{"network in oci", "oci/a.go", `import "net/http"; var c http.Client`, impure, "is pure"},
		{"testing", "node/a.go", `import "testing"; var t testing.T`, testingOutside, "imports testing"},
		{"variable", "node/a.go", `var n int; func f() { n = 1 }`, changing, "n changes"},
		{"hidden variable", "node/a.go", `var n int; func f() { n := 0; n = 1; _ = n }`, changing, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := "package x\n" + c.text + "\n"
			files, err := parseTree(fstest.MapFS{c.file: {Data: []byte(text)}})
			if err != nil || len(files) != 1 {
				t.Fatalf("parseTree = %d files, %v; want 1", len(files), err)
			}
			found := strings.Join(c.check(files), "\n")
			if (c.want == "") != (found == "") || !strings.Contains(found, c.want) {
				t.Errorf("%s with %q: found %q; want %q", c.file, c.text, found, c.want)
			}
		})
	}
}

func TestOtherModulesAndTestDataAreLeftOut(t *testing.T) {
	files, err := parseTree(fstest.MapFS{
		"oci/a.go":                  {Data: []byte("package oci")},
		"oci/testdata/b.go":         {Data: []byte("not Go")},
		"tools/other/go.mod":        {Data: []byte("module other")},
		"tools/other/main.go":       {Data: []byte("package main")},
		".hidden/c.go":              {Data: []byte("package hidden")},
		"oci/a.txt":                 {Data: []byte("text")},
		"internal/x/deep/d_test.go": {Data: []byte("package deep_test")},
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.name)
	}
	if want := []string{"internal/x/deep/d_test.go", "oci/a.go"}; !slices.Equal(names, want) {
		t.Errorf("parseTree found %v; want %v", names, want)
	}
}
