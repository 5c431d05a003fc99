// Command hubd runs the Docker Hub stand-in as a process: for demonstrations, benchmarks and farms
// of real container engines in network namespaces.
//
// Its first line of output is a JSON object with the URLs that it listens on; it ends on SIGINT or
// SIGTERM. Faults and counters are at the admin API, see hub.Hub.AdminHandler.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/pullonce/pullonce/internal/hub"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program: 0 done, 1 failed, 2 wrong usage.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, err := configure(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "hubd:", err)
		return 2
	}
	h, err := hub.Start(cfg)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "hubd:", err)
		return 1
	}
	urls, err := json.Marshal(map[string]string{
		"registry": h.URL(), "token": h.TokenURL(), "cdn": h.CDNURL(), "admin": h.AdminURL(),
	})
	if err == nil {
		_, err = fmt.Fprintln(stdout, string(urls))
		<-ctx.Done()
	}
	if err := errors.Join(err, h.Close()); err != nil {
		_, _ = fmt.Fprintln(stderr, "hubd:", err)
		return 1
	}
	return 0
}

// certificate says where TLS comes from.
type certificate struct{ cert, key, names, ca string }

func configure(args []string, stderr io.Writer) (hub.Config, error) {
	cfg := hub.Default()
	var tlsFrom certificate
	set := flag.NewFlagSet("hubd", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.StringVar(&cfg.Listen, "registry-listen", cfg.Listen, "`address` of the registry")
	set.StringVar(&cfg.AuthListen, "auth-listen", cfg.AuthListen, "`address` of the token service; \"same\": the registry's")
	set.StringVar(&cfg.CDNListen, "cdn-listen", cfg.CDNListen, "`address` of the CDN; \"same\": the registry's")
	set.StringVar(&cfg.AdminListen, "admin-listen", "127.0.0.1:0", "`address` of the admin API; empty: none")
	set.StringVar(&cfg.RegistryURL, "registry-url", "", "`URL` that clients know the registry by")
	set.StringVar(&cfg.AuthURL, "auth-url", "", "`URL` that clients are sent to for tokens")
	set.StringVar(&cfg.CDNURL, "cdn-url", "", "`URL` that blobs are redirected to")
	set.StringVar(&cfg.Backend, "backend", "", "`URL` of the registry that keeps the content; empty: this process does")
	set.StringVar(&cfg.Dir, "dir", "", "`folder` for the blobs that this process keeps; empty: memory")
	set.Int64Var(&cfg.Rate, "rate", 0, "`bytes` a second for all blobs together; 0: no limit")
	set.IntVar(&cfg.PullLimit, "pull-limit", 0, "manifest GETs for each source in the window; 0: no limit")
	set.DurationVar(&cfg.PullWindow, "pull-window", cfg.PullWindow, "window of the pull limit")
	set.DurationVar(&cfg.TokenTTL, "token-ttl", cfg.TokenTTL, "how long tokens are good")
	set.BoolVar(&cfg.AuthOff, "no-auth", false, "a plain registry without tokens")
	set.BoolVar(&cfg.NoRedirect, "no-redirect", false, "answer blobs without a redirect to the CDN")
	set.BoolVar(&cfg.NoReferrersAPI, "no-referrers", false, "answer 404 to the referrers API")
	set.Func("user", "`name:password` of a user, who may push; repeatable", func(text string) error {
		return addUser(&cfg, text)
	})
	set.Func("private", "`repository=name[,name]`: a private repository and who may pull it; repeatable", func(text string) error {
		return addPrivate(&cfg, text)
	})
	set.StringVar(&tlsFrom.cert, "tls-cert", "", "`file` with the certificate of all three")
	set.StringVar(&tlsFrom.key, "tls-key", "", "`file` with its key")
	set.StringVar(&tlsFrom.names, "tls-names", "", "make a certificate for these `names`, split by commas")
	set.StringVar(&tlsFrom.ca, "tls-ca-out", "", "`file` to write what clients must trust to, with -tls-names")
	if err := set.Parse(args); err != nil {
		return cfg, err
	}
	if set.NArg() > 0 {
		return cfg, fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	var err error
	cfg.TLS, err = tlsFrom.config()
	return cfg, errors.Join(err, cfg.Validate())
}

func addUser(cfg *hub.Config, text string) error {
	name, password, ok := strings.Cut(text, ":")
	if !ok || name == "" {
		return errors.New("want name:password")
	}
	if cfg.Users == nil {
		cfg.Users = map[string]string{}
	}
	cfg.Users[name] = password
	return nil
}

func addPrivate(cfg *hub.Config, text string) error {
	repo, names, ok := strings.Cut(text, "=")
	if !ok || repo == "" {
		return errors.New("want repository=name[,name]")
	}
	if cfg.Private == nil {
		cfg.Private = map[string][]string{}
	}
	cfg.Private[repo] = strings.Split(names, ",")
	return nil
}

// config returns nil if no TLS is asked for.
func (c certificate) config() (*tls.Config, error) {
	switch {
	case c.cert != "" && c.names != "":
		return nil, errors.New("-tls-cert and -tls-names exclude each other")
	case c.cert != "":
		pair, err := tls.LoadX509KeyPair(c.cert, c.key)
		if err != nil {
			return nil, err
		}
		return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}, nil
	case c.names != "":
		config, ca, err := hub.SelfSigned(strings.Split(c.names, ",")...)
		if err != nil || c.ca == "" {
			return config, err
		}
		return config, os.WriteFile(c.ca, ca, 0o644)
	}
	return nil, nil
}
