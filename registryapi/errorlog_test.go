package registryapi_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pullonce/pullonce/registryapi"
)

func TestStrangersFillNoLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		server := registryapi.NewServer(testConfig(), http.NotFoundHandler(), slog.New(slog.NewTextHandler(&out, nil)))
		for range 1000 {
			server.ErrorLog.Print("http: TLS handshake error from 10.0.0.9:1: EOF\n")
		}
		if n := strings.Count(out.String(), "came to nothing"); n != 20 || !strings.Contains(out.String(), `error="http: TLS handshake error from 10.0.0.9:1: EOF" more=0`) {
			t.Errorf("1000 handshakes made %d lines; want the first 20:\n%.300s", n, out.String())
		}
		server.ErrorLog.Print("http: panic serving 10.0.0.9:1: oh\nstack\n")
		if !strings.Contains(out.String(), "level=ERROR") || !strings.Contains(out.String(), "stack") {
			t.Error("a panic is not logged")
		}
		time.Sleep(time.Minute)
		out.Reset()
		server.ErrorLog.Print("one more")
		if want := `error="one more" more=980`; !strings.Contains(out.String(), want) {
			t.Errorf("a minute later the line is %q; want %s in it", out.String(), want)
		}
	})
}
