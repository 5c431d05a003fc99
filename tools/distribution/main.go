// Command distribution runs the distribution project's registry, version 3, as one process: the
// real registry behind the Docker Hub stand-in, and the pull-through cache that benchmarks put
// beside a node. It has a module of its own so that its dependencies stay out of the product's.
//
// It prints the address that it listens on as its first line of output, and ends on SIGINT or SIGTERM.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/sirupsen/logrus"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, "distribution:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	set := flag.NewFlagSet("distribution", flag.ContinueOnError)
	listen := set.String("listen", "127.0.0.1:0", "TCP `address` to listen on")
	dir := set.String("dir", "", "`folder` that keeps the content")
	proxyURL := set.String("proxy-url", "", "run as a pull-through cache of the registry at `URL`")
	proxyUser := set.String("proxy-user", "", "`user` at the registry of -proxy-url")
	proxyPassword := set.String("proxy-password", "", "`password` at the registry of -proxy-url")
	if err := set.Parse(args); err != nil {
		return err
	}
	if *dir == "" {
		return errors.New("-dir is missing: the folder that keeps the content")
	}
	config := settings(*dir)
	config.Proxy = configuration.Proxy{RemoteURL: *proxyURL, Username: *proxyUser, Password: *proxyPassword}

	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.PanicLevel)
	app := handlers.NewApp(context.WithoutCancel(ctx), config)
	defer func() { _ = app.Shutdown() }()
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, ln.Addr())
	return serve(ctx, ln, app)
}

// settings is a registry on the file system with deletion on and nothing else that is optional but
// the descriptor cache, which distribution's own example configuration has on.
func settings(dir string) *configuration.Configuration {
	config := &configuration.Configuration{Version: configuration.CurrentVersion}
	config.Storage = configuration.Storage{
		"filesystem":  configuration.Parameters{"rootdirectory": dir},
		"delete":      configuration.Parameters{"enabled": true},
		"cache":       configuration.Parameters{"blobdescriptor": "inmemory"},
		"maintenance": configuration.Parameters{"uploadpurging": map[any]any{"enabled": false}},
	}
	config.Log.AccessLog.Disabled = true
	config.Log.Level = "panic"
	config.Catalog.MaxEntries = 1000
	config.HTTP.Secret = secret()
	return config
}

func secret() string {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails
	return hex.EncodeToString(raw)
}

func serve(ctx context.Context, ln net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		_ = server.Close()
		<-ended
		return nil
	}
}
