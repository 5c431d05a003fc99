package testfarm_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/internal/testfarm"
)

// orasRepository is a hosted repository at a node, as oras-go speaks to it.
func orasRepository(t *testing.T, n *testfarm.Node, path string) *remote.Repository {
	t.Helper()
	repo, err := remote.NewRepository(n.RegistryAddresses()[0] + "/farm.internal/" + path)
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	return repo
}

// TestHostedArtifactsByOras pushes at one node and finds at the others: an image, what refers to it, and what refers to
// that.
func TestHostedArtifactsByOras(t *testing.T) {
	t.Parallel()
	f := testfarm.StartHosting(t, testfarm.Options{Nodes: 3})
	hostedAt(t, f.Nodes[0], "oras/app").pushImage("1", 9100, 300<<10)
	repo := orasRepository(t, f.Nodes[1], "oras/app")
	subject, err := repo.Resolve(t.Context(), "1")
	if err != nil {
		t.Fatal(err)
	}
	const sbom, signature = "application/vnd.example.sbom", "application/vnd.example.signature"
	attach := func(to v1.Descriptor, artifactType, text string) v1.Descriptor {
		t.Helper()
		layer := content.NewDescriptorFromBytes(artifactType+".layer", []byte(text))
		if err := repo.Push(t.Context(), layer, strings.NewReader(text)); err != nil {
			t.Fatalf("push of a blob: %v", err)
		}
		d, err := oras.PackManifest(t.Context(), repo, oras.PackManifestVersion1_1, artifactType,
			oras.PackManifestOptions{Subject: &to, Layers: []v1.Descriptor{layer}, ManifestAnnotations: map[string]string{"text": text}})
		if err != nil {
			t.Fatalf("push of an artifact: %v", err)
		}
		return d
	}
	list := attach(subject, sbom, "parts")
	signed := attach(list, signature, "signed parts")
	for _, n := range f.Nodes {
		other := orasRepository(t, n, "oras/app")
		for _, c := range []struct {
			subject, want v1.Descriptor
			artifactType  string
		}{{subject, list, sbom}, {list, signed, signature}, {list, signed, ""}} {
			var found []v1.Descriptor
			err := other.Referrers(t.Context(), c.subject, c.artifactType, func(page []v1.Descriptor) error {
				found = append(found, page...)
				return nil
			})
			if err != nil || len(found) != 1 || found[0].Digest != c.want.Digest || found[0].Annotations["text"] == "" {
				t.Errorf("referrers of %s at %s: %v, %v; want %s", c.subject.Digest, n.ID(), found, err, c.want.Digest)
			}
		}
		into := memory.New()
		if err := oras.ExtendedCopyGraph(t.Context(), other, into, subject, oras.ExtendedCopyGraphOptions{}); err != nil {
			t.Errorf("copy of the whole graph from %s: %v", n.ID(), err)
		}
		for _, d := range []v1.Descriptor{subject, list, signed} {
			if ok, err := into.Exists(t.Context(), d); err != nil || !ok {
				t.Errorf("copied from %s: %s is there %v, %v; want all of it", n.ID(), d.Digest, ok, err)
			}
		}
	}
	// From one repository of the farm to another one, at another node: by mounts.
	to := orasRepository(t, f.Nodes[2], "oras/copy")
	if _, err := oras.Copy(t.Context(), repo, "1", to, "2", oras.CopyOptions{}); err != nil {
		t.Fatalf("copy: %v", err)
	}
	if err := hostedAt(t, f.Nodes[0], "oras/copy").pull("2"); err != nil {
		t.Error(err)
	}
	if err := to.Delete(t.Context(), subject); err != nil {
		t.Errorf("delete: %v", err)
	}
	if got := hostedAt(t, f.Nodes[1], "oras/copy").resolved("2"); got != "" {
		t.Errorf("the tag of what was deleted is %q", got)
	}
}

// TestHostedImagesByCrane is go-containerregistry's part: push, pull, index, mount, delete.
func TestHostedImagesByCrane(t *testing.T) {
	if testing.Short() {
		t.Skip("builds crane")
	}
	t.Parallel()
	dir := t.TempDir()
	tool := filepath.Join(dir, "crane")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", tool, "github.com/google/go-containerregistry/cmd/crane")
	build.Dir = "../../tools/crane"
	if out, err := build.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("build crane: %v\n%s", err, out)
		}
		t.Skipf("left out: crane does not build: %v\n%s", err, out)
	}
	crane := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("crane %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	f := testfarm.StartHosting(t, testfarm.Options{Nodes: 3})
	at := func(i int, name string) string {
		return f.Nodes[i].RegistryAddresses()[0] + "/farm.internal/crane/" + name
	}
	spec := images.Spec{Layers: images.RandomLayers(9200, mib, 5000), Packing: images.Gzip} // crane unpacks what it checks
	image, err := images.Build(t.Context(), dir, spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := images.Push(t.Context(), image, f.Nodes[0].URL(), "farm.internal/crane/app", "1", images.Auth{}); err != nil {
		t.Fatal(err)
	}
	crane("pull", "--format=oci", at(1, "app:1"), dir+"/layout")
	crane("push", dir+"/layout", at(2, "again:1"))
	if got := crane("digest", at(0, "again:1")); got != image.Digest.String() {
		t.Errorf("digest of what was pushed again: %s; want %s", got, image.Digest)
	}
	crane("cp", at(1, "app:1"), at(1, "copy:1")) // by mounting
	crane("tag", at(2, "copy:1"), "latest")
	crane("index", "append", "-m", at(0, "app:1"), "-t", at(0, "app:index"))
	for i := range f.Nodes {
		crane("validate", "--remote", at(i, "copy:latest"))
		crane("validate", "--remote", at(i, "app:index"))
	}
	if got := crane("ls", at(2, "app")); got != "1\nindex" {
		t.Errorf("tags: %q; want 1 and index", got)
	}
	if got := crane("catalog", f.Nodes[1].RegistryAddresses()[0]); got != "farm.internal/crane/again\nfarm.internal/crane/app\nfarm.internal/crane/copy" {
		t.Errorf("catalog: %q; want all three repositories", got)
	}
	crane("delete", at(1, "copy:1"))
	if got := crane("ls", at(0, "copy")); got != "latest" {
		t.Errorf("tags after one was deleted: %q; want latest", got)
	}
	out, err := exec.CommandContext(t.Context(), tool, "cp", at(0, "app:1"), f.Nodes[0].RegistryAddresses()[0]+"/library/app:1").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "DENIED") || !strings.Contains(string(out), "farm.internal/") {
		t.Errorf("push to an upstream's name: %v %s; want DENIED with the prefix", err, out)
	}
}
