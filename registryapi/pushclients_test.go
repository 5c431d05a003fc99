package registryapi_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/pullonce/pullonce/internal/images"
	"github.com/pullonce/pullonce/oci"
)

// realClient is the path of a program; without it the test is left out, but for runs of CI, which have all.
func realClient(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("left out: %s is not installed", name)
	return ""
}

// crane is built from its own module, since Debian has none.
func crane(t *testing.T) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "crane")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", to, "github.com/google/go-containerregistry/cmd/crane")
	build.Dir = "../tools/crane"
	if out, err := build.CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("build crane: %v\n%s", err, out)
		}
		t.Skipf("left out: crane does not build: %v\n%s", err, out)
	}
	return to
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// pushedImage has an image in a farm.
func pushedImage(t *testing.T) (p pusher, host, name, digest string) {
	t.Helper()
	p, _ = newPusher(t)
	image, err := images.Build(t.Context(), t.TempDir(), images.Spec{Layers: images.RandomLayers(1, 3_000_000, 5000), Packing: images.Gzip})
	if err != nil {
		t.Fatal(err)
	}
	if err := images.Push(t.Context(), image, p.server.URL, hostedPrefix+"/team/app", "1", images.Auth{}); err != nil {
		t.Fatalf("push: %v", err)
	}
	host = p.server.Listener.Addr().String()
	got := p.want(200, "HEAD", "/manifests/1", nil)
	return p, host, host + "/" + hostedPrefix + "/team/app:1", got.header.Get("Docker-Content-Digest")
}

func TestCranePushesAndPulls(t *testing.T) {
	if testing.Short() {
		t.Skip("builds crane")
	}
	_, host, name, digest := pushedImage(t)
	tool := crane(t)
	dir := t.TempDir()
	run(t, tool, "pull", "--format=oci", name, dir+"/layout")
	pushed := host + "/" + hostedPrefix + "/crane/app:2"
	run(t, tool, "push", dir+"/layout", pushed)
	if got := run(t, tool, "digest", pushed); got != digest {
		t.Errorf("crane digest = %s; want %s", got, digest)
	}
	run(t, tool, "cp", name, host+"/"+hostedPrefix+"/crane/copy:3") // by mounting
	run(t, tool, "tag", pushed, "latest")
	run(t, tool, "validate", "--remote", pushed)
	if got := run(t, tool, "ls", host+"/"+hostedPrefix+"/crane/app"); got != "2\nlatest" {
		t.Errorf("crane ls = %q; want 2 and latest", got)
	}
	if got := run(t, tool, "catalog", host); !strings.Contains(got, hostedPrefix+"/crane/copy") {
		t.Errorf("crane catalog = %q; want the copy in it", got)
	}
	run(t, tool, "delete", host+"/"+hostedPrefix+"/crane/app:2")
	run(t, tool, "validate", "--remote", host+"/"+hostedPrefix+"/crane/app:latest")
	out, err := exec.CommandContext(t.Context(), tool, "cp", name, host+"/library/app:1").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "DENIED") || !strings.Contains(string(out), hostedPrefix) {
		t.Errorf("crane cp to an upstream's name: %v %s; want DENIED with the prefix", err, out)
	}
}

func TestSkopeoPushesAndPulls(t *testing.T) {
	tool := realClient(t, "skopeo")
	p, host, name, digest := pushedImage(t)
	dir := t.TempDir()
	copyTo := func(args ...string) {
		run(t, tool, append([]string{"copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests"}, args...)...)
	}
	copyTo("docker://"+name, "oci:"+dir+"/layout:1")
	copyTo("oci:"+dir+"/layout:1", "docker://"+host+"/"+hostedPrefix+"/skopeo/app:1")
	q := pusher{t: t, server: p.server, repo: hostedPrefix + "/skopeo/app"}
	if got := q.want(200, "HEAD", "/manifests/1", nil).header.Get("Docker-Content-Digest"); got != digest {
		t.Errorf("pushed by skopeo: %s; want %s", got, digest)
	}
	run(t, tool, "copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", "--format=v2s2",
		"docker://"+name, "docker://"+host+"/"+hostedPrefix+"/skopeo/docker:1")
	q.repo = hostedPrefix + "/skopeo/docker"
	if got := q.want(200, "HEAD", "/manifests/1", nil).header.Get("Content-Type"); got != oci.MediaTypeDockerManifest {
		t.Errorf("pushed as Docker's: %s; want %s", got, oci.MediaTypeDockerManifest)
	}
	copyTo("docker://"+host+"/"+hostedPrefix+"/skopeo/docker:1", "dir:"+dir+"/back")
}

func TestPodmanPushesAndPulls(t *testing.T) {
	tool := realClient(t, "podman")
	if os.Getuid() != 0 {
		t.Skip("left out: needs root")
	}
	p, host, name, _ := pushedImage(t)
	dir := t.TempDir()
	podman := func(args ...string) {
		run(t, tool, append([]string{"--root", dir + "/root", "--runroot", dir + "/run", "--storage-driver", "vfs"}, args...)...)
	}
	t.Cleanup(func() {
		_ = exec.Command(tool, "--root", dir+"/root", "--runroot", dir+"/run", "--storage-driver", "vfs", "rmi", "-a", "-f").Run()
	})
	pushed := host + "/" + hostedPrefix + "/podman/app:1"
	podman("pull", "-q", "--tls-verify=false", name)
	podman("tag", name, pushed)
	podman("push", "-q", "--tls-verify=false", pushed)
	podman("rmi", pushed, name)
	podman("pull", "-q", "--tls-verify=false", pushed)
	pusher{t: t, server: p.server, repo: hostedPrefix + "/podman/app"}.want(200, "HEAD", "/manifests/1", nil)
}

// TestOrasPushesArtifactsAndFindsReferrers is the library under the oras command.
func TestOrasPushesArtifactsAndFindsReferrers(t *testing.T) {
	p, host, _, _ := pushedImage(t)
	repo, err := remote.NewRepository(host + "/" + hostedPrefix + "/team/app")
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	subject, err := repo.Resolve(t.Context(), "1")
	if err != nil {
		t.Fatal(err)
	}
	layer := content.NewDescriptorFromBytes("application/vnd.example.sbom.layer", []byte("a list of parts"))
	if err := repo.Push(t.Context(), layer, strings.NewReader("a list of parts")); err != nil {
		t.Fatalf("Push of a blob: %v", err)
	}
	const sbom = "application/vnd.example.sbom"
	artifact, err := oras.PackManifest(t.Context(), repo, oras.PackManifestVersion1_1, sbom,
		oras.PackManifestOptions{Subject: &subject, Layers: []v1.Descriptor{layer}, ManifestAnnotations: map[string]string{"k": "v"}})
	if err != nil {
		t.Fatalf("PackManifest: %v", err)
	}
	var found []v1.Descriptor
	err = repo.Referrers(t.Context(), subject, sbom, func(page []v1.Descriptor) error {
		found = append(found, page...)
		return nil
	})
	if err != nil || len(found) != 1 || found[0].Digest != artifact.Digest || found[0].Annotations["k"] != "v" {
		t.Errorf("Referrers = %v, %v; want the artifact", found, err)
	}
	// No tag of the old scheme was needed.
	if got := p.want(200, "GET", "/tags/list", nil).body; strings.Contains(got, "sha256-") {
		t.Errorf("tags: %s; want no tag that stands for the referrers API", got)
	}
	if err := repo.Delete(t.Context(), artifact); err != nil {
		t.Errorf("Delete: %v", err)
	}
}
