package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/pullonce/pullonce/internal/hub"
)

// A process is a p2pd that was started as a person does.
type process struct {
	cmd    *exec.Cmd
	output *bytes.Buffer
	ended  chan error
}

// start starts this test's own program as p2pd and waits until its registry answers.
func start(t *testing.T, config, registry string) *process {
	t.Helper()
	path, err := exec.LookPath("p2pd") // testscript.Main puts it there for stories only
	if err != nil {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(t.TempDir(), "p2pd")
		if err := os.Symlink(self, path); err != nil {
			t.Fatal(err)
		}
	}
	p := &process{output: &bytes.Buffer{}, ended: make(chan error, 1)}
	p.cmd = exec.Command(path, "--config", config)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if r, err := http.Get("http://" + registry + "/v2/"); err == nil {
			_ = r.Body.Close()
			return p
		}
		select {
		case err := <-p.ended:
			t.Fatalf("p2pd ended with %v: %s", err, p.output)
		default:
		}
		if time.Now().After(deadline) {
			_ = p.cmd.Process.Kill()
			t.Fatalf("p2pd does not answer after 20 s: %s", p.output)
		}
	}
}

// end waits for the process.
func (p *process) end(t *testing.T, limit time.Duration) (code int, took time.Duration) {
	t.Helper()
	begin := time.Now()
	select {
	case err := <-p.ended:
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return exit.ExitCode(), time.Since(begin)
		}
		if err != nil {
			t.Fatal(err)
		}
		return 0, time.Since(begin)
	case <-time.After(limit):
		_ = p.cmd.Process.Kill()
		<-p.ended
		t.Fatalf("p2pd is still there after %v: %s", limit, p.output)
		return 0, 0
	}
}

// blobAt gives a stand-in a blob and sends it at so many bytes a second.
func blobAt(t *testing.T, size int, rate int64) (h *hub.Hub, digest string) {
	t.Helper()
	h, err := hub.Start(hub.Config{Rate: rate})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	d, err := h.PutBlob("library/app", data)
	if err != nil {
		t.Fatal(err)
	}
	return h, d.String()
}

func TestSIGTERMLetsARunningResponseEnd(t *testing.T) {
	t.Parallel()
	h, digest := blobAt(t, 6<<20, 3<<20) // 2 s
	config, registry := configFile(t, h.URL(), "")
	p := start(t, config, registry)
	r, err := http.Get("http://" + registry + "/v2/library/app/blobs/" + digest)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("GET = %v, %v", r, err)
	}
	defer func() { _ = r.Body.Close() }()
	sum := sha256.New()
	if _, err := io.CopyN(sum, r.Body, 1000); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(sum, r.Body); err != nil {
		t.Errorf("the response was cut off: %v", err)
	}
	if got := fmt.Sprintf("sha256:%x", sum.Sum(nil)); got != digest {
		t.Errorf("the response had %s; want %s", got, digest)
	}
	if code, took := p.end(t, 10*time.Second); code != 0 || took > 5*time.Second {
		t.Errorf("p2pd ended with code %d, %v after its last response; want 0 at once\n%s", code, took, p.output)
	}
	if _, err := http.Get("http://" + registry + "/v2/"); err == nil {
		t.Error("the registry still answers")
	}
}

func TestSIGTERMWaitsNoLongerThanTheGrace(t *testing.T) {
	t.Parallel()
	h, digest := blobAt(t, 8<<20, 512<<10) // 16 s
	config, registry := configFile(t, h.URL(), "")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("registry: {"), []byte("registry: {shutdown_grace: 1s, "), 1)
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, config, registry)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+registry+"/v2/library/app/blobs/"+digest, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.DefaultClient.Do(q)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("GET = %v, %v", r, err)
	}
	defer func() { _ = r.Body.Close() }()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code, took := p.end(t, 10*time.Second); code != 0 || took > 6*time.Second {
		t.Errorf("p2pd ended with code %d after %v; want 0 soon after the grace of 1 s\n%s", code, took, p.output)
	}
	if n, err := io.Copy(io.Discard, r.Body); err == nil {
		t.Errorf("a response that was cut off ended cleanly after %d bytes", n)
	}
}

func TestASecondSignalAfterAStartIsNoCrash(t *testing.T) {
	t.Parallel()
	h, _ := blobAt(t, 1000, 0)
	config, registry := configFile(t, h.URL(), "")
	for range 2 { // the second start finds what the first left
		p := start(t, config, registry)
		for range 2 {
			if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Fatal(err)
			}
		}
		if code, _ := p.end(t, 10*time.Second); code != 0 {
			t.Errorf("p2pd ended with code %d; want 0\n%s", code, p.output)
		}
	}
}
