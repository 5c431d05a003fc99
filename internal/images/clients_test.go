package images_test

import (
	"os/exec"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/pullonce/pullonce/internal/hub"
	"github.com/pullonce/pullonce/internal/images"
)

// TestSkopeoTakesEveryForm has a real client copy every form of image out of a Hub; it checks each
// digest, unpacks layers for the archive that Docker loads, and checks the diff IDs.
func TestSkopeoTakesEveryForm(t *testing.T) {
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		t.Skip("left out: skopeo is not installed")
	}
	h, err := hub.Start(hub.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	dir := t.TempDir()
	layers := images.RandomLayers(1, 300_000, 5000)
	amd := v1.Platform{OS: "linux", Architecture: "amd64"}
	for name, spec := range map[string]images.Spec{
		"schema2":      {Layers: layers, Docker: true, Packing: images.Gzip, Platform: amd},
		"schema2plain": {Layers: layers, Docker: true, Packing: images.Plain, Platform: amd},
		"oci":          {Layers: layers, Packing: images.GzipStored, Platform: amd},
		"ociplain":     {Layers: layers, Platform: amd},
		"ocizstd":      {Layers: layers, Packing: images.Zstd, Platform: amd},
		"files":        {Layers: []images.Layer{{Files: []string{"/etc/os-release", "/etc/hostname"}}}, Docker: true, Packing: images.Gzip, Platform: amd},
	} {
		image, err := images.Build(t.Context(), dir, spec)
		if err != nil {
			t.Fatal(err)
		}
		index, err := images.Index(image)
		if err != nil {
			t.Fatal(err)
		}
		if err := index.AddTo(h, "library/"+name, "1"); err != nil {
			t.Fatal(err)
		}
		to := "docker-archive:" + dir + "/" + name + ".tar:x:1"
		if spec.Packing == images.Zstd {
			to = "dir:" + dir + "/" + name // Docker's archive knows no zstd
		}
		out, err := exec.CommandContext(t.Context(), skopeo, "copy", "--insecure-policy", "--src-tls-verify=false",
			"--override-os=linux", "--override-arch=amd64", "docker://"+h.Host()+"/library/"+name+":1",
			to).CombinedOutput()
		if err != nil {
			t.Errorf("skopeo copy of %s: %v\n%s", name, err, strings.TrimSpace(string(out)))
		}
	}
}
