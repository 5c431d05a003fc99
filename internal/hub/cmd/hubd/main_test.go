package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHubdServesUntilItIsStopped(t *testing.T) {
	ca := t.TempDir() + "/ca.pem"
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	code := make(chan int, 1)
	go func() {
		defer func() { _ = in.Close() }()
		code <- run(ctx, []string{
			"-tls-names", "127.0.0.1", "-tls-ca-out", ca, "-user", "ann:secret", "-private", "a/b=ann", "-pull-limit", "7", "-dir", t.TempDir(),
		}, in, io.Discard)
	}()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var urls map[string]string
	if err := json.Unmarshal(line, &urls); err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for target, status := range map[string]int{
		urls["registry"] + "/v2/": 401, urls["token"] + "?service=x": 200, urls["cdn"] + "/": 404, urls["admin"] + "/hub/stats": 200,
	} {
		resp, err := client.Get(target)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("GET %s: %s; want %d", target, resp.Status, status)
		}
	}
	cancel()
	if got := <-code; got != 0 {
		t.Errorf("the exit code is %d; want 0", got)
	}
}

func TestWrongUsageIsNamedWithExitCode2(t *testing.T) {
	for want, args := range map[string][]string{
		"name:password":  {"-user", "ann"},
		"unknown user":   {"-private", "a/b=ann"},
		"no http":        {"-backend", "localhost"},
		"unexpected":     {"stray"},
		"exclude":        {"-tls-cert", "x", "-tls-names", "y"},
		"not defined":    {"-nonsense"},
		"no such file":   {"-tls-cert", "/nonexistent", "-tls-key", "/nonexistent"},
		"is below 0":     {"-rate", "-1"},
		"repository=nam": {"-private", "a/b"},
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), args, io.Discard, &stderr); code != 2 || !strings.Contains(stderr.String(), want) {
			t.Errorf("hubd %v: exit code %d, %q; want 2 and %q", args, code, stderr.String(), want)
		}
	}
}
