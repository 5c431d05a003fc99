package config_test

import (
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/pullonce/pullonce/config"
)

var update = flag.Bool("update", false, "write the golden files and docs/configuration.md anew")

// empty are sources that say nothing, whatever this machine has in /etc.
func empty(t *testing.T) config.Sources {
	t.Helper()
	return config.Sources{File: file(t, "")}
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "p2pd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, s config.Sources) config.Config {
	t.Helper()
	c, err := config.Load(s)
	if err != nil {
		t.Fatalf("Load:\n%v", err)
	}
	return c
}

func TestNoConfigurationIsALoneNodeThatMirrorsDockerHub(t *testing.T) {
	got := load(t, empty(t))
	want := config.Config{
		Farm: "pullonce", DataDir: "./.p2pd",
		Registry: config.Registry{
			Listen: []string{"127.0.0.1:5000", "[::1]:5000"}, ListenDefaulted: true,
			FirstByteTimeout: 10 * time.Second, StallTimeout: 20 * time.Second, ShutdownGrace: 20 * time.Second,
		},
		// Which address is advertised is for the host's network to say.
		Peer:   config.Peer{Listen: "0.0.0.0:7947", Advertise: got.Peer.Advertise},
		Gossip: config.Gossip{Listen: "0.0.0.0:7946", Advertise: got.Gossip.Advertise, HoldDown: 10 * time.Minute},
		Trust:  config.Trust{Mode: "auto"},
		Admin:  config.Admin{Listen: "127.0.0.1:5080", Socket: ".p2pd/p2pd.sock"},
		Cache:  config.Cache{MaxSize: config.Size{Percent: 20}, MinFree: config.Size{Percent: 20}, ScrubInterval: 168 * time.Hour},
		Limits: config.Limits{Memory: 64 << 20},
		Hosted: config.Hosted{
			Prefix: "farm.internal", MinFree: config.Size{Percent: 5}, Copies: 3, MinCopies: 2, MaxUploads: 4096, UploadExpiry: 24 * time.Hour, SlowestUpload: 1 << 20,
			RepairRate: 64 << 20, CompareInterval: time.Minute, GCInterval: 24 * time.Hour, GCGrace: time.Hour,
		},
		RingPartitions:   16384,
		DefaultUpstream:  "docker.io",
		Egress:           "auto",
		UpstreamFallback: "direct",
		Prefetch:         true,
		MirrorAuth:       "off",
		Upstreams: map[string]config.Upstream{"docker.io": {
			URL: "https://registry-1.docker.io", TagTTL: time.Minute, MaxConcurrent: 16, Connections: 4,
			AuthTTL: 5 * time.Minute, AuthStale: time.Hour, AuthRealm: "https://auth.docker.io/token", AuthService: "registry.docker.io",
		}},
		Log: config.Log{Level: slog.LevelInfo, Format: "auto"},
	}
	if strings.HasPrefix(got.Peer.Advertise, "127.") { // a host without a network
		want.Peer.Listen, want.Gossip.Listen = "127.0.0.1:7947", "127.0.0.1:7946"
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Load of nothing =\n%+v\nwant\n%+v", got, want)
	}
	s := empty(t)
	s.Root = true
	if got := load(t, s).DataDir; got != "/var/lib/p2pd" {
		t.Errorf("DataDir of root = %q; want /var/lib/p2pd", got)
	}
}

func TestAWholeFileIsRead(t *testing.T) {
	c := load(t, config.Sources{File: "testdata/farm.yaml"})
	if c.Zone != "rack-12" || c.Registry.ListenDefaulted || len(c.Registry.Listen) != 1 || c.Trust != (config.Trust{Mode: "auto", TokenFile: "/etc/p2pd/token"}) ||
		c.Peer != (config.Peer{Listen: "0.0.0.0:7947", Advertise: "10.0.0.5:7947"}) || c.Gossip.Advertise != "10.0.0.5:7946" ||
		c.Admin.Socket != "/run/p2pd/p2pd.sock" || len(c.Join) != 2 || c.Join[1] != "10.0.0.12:7946" {
		t.Errorf("Load(farm.yaml) = %+v", c)
	}
	if u := c.Upstreams["ghcr.io"]; u.URL != "https://ghcr.io" || u.TagTTL != time.Minute || u.Connections != 4 {
		t.Errorf("Upstreams[ghcr.io] = %+v; want the defaults of an upstream", u)
	}
	if u := c.Upstreams["docker.io"]; u.URL != "https://registry-1.docker.io" || len(c.Upstreams) != 2 {
		t.Errorf("Upstreams = %+v; want docker.io and ghcr.io", c.Upstreams)
	}
}

func TestEverythingWrongIsReportedAtOnce(t *testing.T) {
	_, err := config.Load(config.Sources{
		File: "testdata/bad.yaml",
		Environ: []string{
			"HOME=/root", "P2PD_ZONES=a", "P2PD_TRUST_MODE=all", "P2PD_RING_PARTITIONS=many", "P2PD_SERVICE_HOST=10.1.1.1",
			"P2PD_PORT=tcp://10.1.1.1:7947", "P2PD_PORT_7947_TCP=tcp://10.1.1.1:7947", "P2PD_UPSTREAMS_QUAY_IO_RATE=fast",
			"P2PD_UPSTREAMS_QUAY_IO_COLOUR=red", "P2PD_UPSTREAMS_QUAY_IO_PROXY=user:secret@nowhere",
		},
		Flags: map[string]string{"peer-advertise": "0.0.0.0:7947", "no-such": "1", "log-level": "loud"},
	})
	bad, ok := errors.AsType[*config.Error](err)
	if !ok {
		t.Fatalf("Load(bad.yaml) = %v; want an *Error", err)
	}
	got := bad.Error() + "\n"
	compare(t, "testdata/bad.golden", got)
	if strings.Contains(got, "secret") {
		t.Error("an error shows a password")
	}
}

// compare holds text to a golden file.
func compare(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what it should be (go test ./config -update writes it anew): got\n%s\nwant\n%s", path, got, want)
	}
}

func TestFlagsGoBeforeTheEnvironmentBeforeTheFile(t *testing.T) {
	s := config.Sources{
		File:    file(t, "zone: of-file\negress: no\nlog: {level: warn}\n"),
		Environ: []string{"P2PD_ZONE=of-environment", "P2PD_LOG_LEVEL=error"},
		Flags:   map[string]string{"log-level": "debug"},
	}
	c := load(t, s)
	if c.Zone != "of-environment" || c.Log.Level != slog.LevelDebug || c.Egress != "no" {
		t.Errorf("zone %q, level %v, egress %q; want of-environment, debug, no", c.Zone, c.Log.Level, c.Egress)
	}
}

func TestUpstreamsInTheEnvironment(t *testing.T) {
	s := config.Sources{
		File: file(t, "upstreams: {my-registry.example.com: }\n"),
		Environ: []string{
			"P2PD_UPSTREAMS=quay.io, registry.k8s.io",
			"P2PD_UPSTREAMS_DOCKER_IO_URL=http://127.0.0.1:9000/",
			"P2PD_UPSTREAMS_GHCR_IO_TAG_TTL=5m",
			"P2PD_UPSTREAMS_MY_REGISTRY_EXAMPLE_COM_NO_PROXY=a.example, 10.0.0.0/8",
		},
	}
	c := load(t, s)
	if len(c.Upstreams) != 5 {
		t.Errorf("Upstreams = %v; want five", c.Upstreams)
	}
	if u := c.Upstreams["docker.io"]; u.URL != "http://127.0.0.1:9000" || u.TagTTL != time.Minute {
		t.Errorf("docker.io = %+v; want the URL of the environment and the default tag_ttl", u)
	}
	if u := c.Upstreams["ghcr.io"]; u.TagTTL != 5*time.Minute || u.URL != "https://ghcr.io" {
		t.Errorf("ghcr.io = %+v; want its tag_ttl", u)
	}
	if u := c.Upstreams["my-registry.example.com"]; !reflect.DeepEqual(u.NoProxy, []string{"a.example", "10.0.0.0/8"}) {
		t.Errorf("my-registry.example.com = %+v; want its no_proxy", u)
	}
}

func TestEveryKeyCanBeSaidInTheEnvironment(t *testing.T) {
	for _, k := range config.Keys() {
		name := strings.Replace(k.Env, "<NAME>", "DOCKER_IO", 1)
		s := empty(t)
		s.Environ = []string{name + "=\x00"}
		_, err := config.Load(s)
		if err == nil || !strings.Contains(err.Error(), "environment "+name+": ") || strings.Contains(err.Error(), "no such key") {
			t.Errorf("Load with a bad %s = %v; want an error about its value", name, err)
		}
	}
}

func TestEveryFlagIsRead(t *testing.T) {
	values := map[string]string{
		"data-dir": "/srv/p2pd", "zone": "z", "registry-listen": "127.0.0.2:5000,[::1]:5000", "peer-listen": "127.0.0.2:1",
		"peer-advertise": "127.0.0.2:2", "gossip-listen": "127.0.0.2:3", "gossip-advertise": "127.0.0.2:4",
		"admin-listen": "127.0.0.2:5", "admin-socket": "/tmp/s", "join": "127.0.0.1,127.0.0.3:9", "trust": "auto", "token": "p2p1.x",
		"cache-max-size": "10GiB", "log-level": "warn",
	}
	flags := pflag.NewFlagSet("p2pd", pflag.ContinueOnError)
	config.AddFlags(flags)
	args := []string{"--config", file(t, "zone: of-file")}
	for _, k := range config.Keys() {
		if k.Flag == "" || k.Flag == "token-file" { // which does not go together with token
			continue
		}
		if values[k.Flag] == "" {
			t.Errorf("flag --%s is not tried here", k.Flag)
		}
		args = append(args, "--"+k.Flag, values[k.Flag])
	}
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	c := load(t, config.Sources{}.FromFlags(flags))
	if c.DataDir != "/srv/p2pd" || c.Zone != "z" || len(c.Registry.Listen) != 2 || c.Peer.Advertise != "127.0.0.2:2" ||
		c.Gossip.Listen != "127.0.0.2:3" || c.Admin.Socket != "/tmp/s" || !reflect.DeepEqual(c.Join, []string{"127.0.0.1:7946", "127.0.0.3:9"}) ||
		c.Cache.MaxSize.Bytes != 10<<30 || c.Log.Level != slog.LevelWarn || c.Trust != (config.Trust{Mode: "auto", Token: "p2p1.x"}) {
		t.Errorf("Load of all flags = %+v", c)
	}
}

func TestAdvertiseIsTheListenAddressOrTheHostsOwn(t *testing.T) {
	s := empty(t)
	s.Flags = map[string]string{"trust": "none", "peer-listen": "127.0.0.3:7000", "gossip-listen": "0.0.0.0:7001", "gossip-advertise": "10.9.8.7:7001"}
	c := load(t, s)
	if c.Peer.Advertise != "127.0.0.3:7000" || c.Gossip.Advertise != "10.9.8.7:7001" {
		t.Errorf("advertise %s and %s; want the listen address and what was said", c.Peer.Advertise, c.Gossip.Advertise)
	}
}

func TestNodesKnowEachOtherByCertificatesUnlessItIsSaidOtherwise(t *testing.T) {
	s := empty(t)
	s.Flags = map[string]string{"peer-listen": "0.0.0.0:7947", "peer-advertise": "10.0.0.1:7947", "join": "10.0.0.2,seed.example.com", "token": "t"}
	if c := load(t, s); c.Trust.Mode != "auto" || c.Trust.Token != "t" {
		t.Errorf("Load gives trust %+v; want mode auto and the token", c.Trust)
	}
}

func TestTheFilesOfASitesCAAreAllNeededAndOnlyWithThatMode(t *testing.T) {
	full := file(t, "x")
	all := "ca_file: " + full + ", cert_file: " + full + ", key_file: " + full + ", gossip_key_file: " + full
	load(t, config.Sources{File: file(t, "trust: {mode: files, "+all+"}")})
	for text, want := range map[string]string{
		"trust: {mode: files, ca_file: " + full + "}":             "trust.cert_file: is missing",
		"trust: {" + all + "}":                                    "trust.key_file: is for trust.mode files",
		"trust: {mode: none, token: t}":                           "trust.token: is for trust.mode auto",
		"trust: {mode: files, token_file: /nowhere, " + all + "}": "trust.token_file: is for trust.mode auto",
		"trust: {token: t, token_file: /nowhere}":                 "trust.token_file: trust.token is set, too",
	} {
		if _, err := config.Load(config.Sources{File: file(t, text)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load(%s) = %v; want an error with %q", text, err, want)
		}
	}
}

func TestListenersThatClash(t *testing.T) {
	for text, clash := range map[string]bool{
		"registry: {listen: '127.0.0.1:5080'}":                            true,
		"registry: {listen: '0.0.0.0:5080'}":                              true,
		"registry: {listen: '[::]:5080'}":                                 true,
		"registry: {listen: '[::1]:5080'}":                                false,
		"registry: {listen: '127.0.0.2:5080'}":                            false,
		"registry: {listen: ['127.0.0.1:1', '127.0.0.1:1']}":              true,
		"registry: {listen: '127.0.0.1:0'}\nadmin: {listen: 127.0.0.1:0}": false,
		"admin: {listen: ''}":                                             false,
	} {
		_, err := config.Load(config.Sources{File: file(t, text)})
		if got := err != nil && strings.Contains(err.Error(), "is taken by"); got != clash || !clash && err != nil {
			t.Errorf("Load(%q) = %v; want a clash: %v", text, err, clash)
		}
	}
}

func TestFilesThatAreNoConfiguration(t *testing.T) {
	for text, want := range map[string]string{
		"zone: [":                   "p2pd.yaml:",
		"- a\n- b\n":                "want keys and values",
		"just text":                 "want keys and values",
		"zone: a\n---\nzone: b\n":   "several documents",
		"zone: &z a\nfarm: *z\n":    "p2pd.yaml:2: farm: is an alias",
		"? [a]\n: b\n":              "want a name as key",
		"registry: 127.0.0.1:5000":  "p2pd.yaml:1: registry: want keys below it, such as listen",
		"\n\nzone: {a: b}":          "p2pd.yaml:3: zone: want a value",
		"zone:":                     "p2pd.yaml:1: zone: has no value",
		"zone: [a]":                 "p2pd.yaml:1: zone: want one value, not a list",
		"join: [[a]]":               "p2pd.yaml:1: join: want a list of values",
		"registry: {lissten: a}":    "p2pd.yaml:1: registry.lissten: no such key",
		"registry: {listens: a}":    "did you mean registry.listen?",
		"listen: a":                 "did you mean registry.listen?",
		"registry: {listen: []}":    "p2pd.yaml:1: registry.listen: is empty",
		"default_upstream: quay.io": "p2pd.yaml:1: default_upstream: quay.io is not among the upstreams",
	} {
		_, err := config.Load(config.Sources{File: file(t, text)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load(%q) = %v; want an error with %q", text, err, want)
		}
	}
	if _, err := config.Load(config.Sources{File: "testdata/none.yaml"}); err == nil {
		t.Error("Load of a file that is not there = nil; want an error")
	}
	s := config.Sources{Environ: []string{"P2PD_CONFIG=testdata/none.yaml"}}
	if _, err := config.Load(s); err == nil || !strings.HasPrefix(err.Error(), "testdata/none.yaml: cannot be read") {
		t.Errorf("Load with P2PD_CONFIG that is not there = %v; want an error that names it", err)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]config.Size{
		"20%": {Percent: 20}, "0.5%": {Percent: 0.5}, "100GiB": {Bytes: 100 << 30}, "100 GB": {Bytes: 100e9},
		"1048576": {Bytes: 1 << 20}, "1.5MiB": {Bytes: 3 << 19}, "64mib": {Bytes: 64 << 20}, "3kB": {Bytes: 3000},
	} {
		c := load(t, config.Sources{File: file(t, "cache: {max_size: '"+text+"'}")})
		if c.Cache.MaxSize != want {
			t.Errorf("max_size %s = %+v; want %+v", text, c.Cache.MaxSize, want)
		}
		again := load(t, config.Sources{File: file(t, "cache: {max_size: '"+c.Cache.MaxSize.String()+"'}")})
		if again.Cache.MaxSize != want {
			t.Errorf("max_size %s spelled %s = %+v; want %+v", text, c.Cache.MaxSize, again.Cache.MaxSize, want)
		}
	}
	if got := (config.Size{Percent: 20}).Of(1000); got != 200 {
		t.Errorf("20%% of 1000 = %d; want 200", got)
	}
	if got := (config.Size{Bytes: 7}).Of(1000); got != 7 {
		t.Errorf("7 bytes of 1000 = %d; want 7", got)
	}
}

func TestWhatIsHostedHasANameOfItsOwn(t *testing.T) {
	for text, want := range map[string]string{
		"hosted: {prefix: images.corp.example}":               "",
		"hosted: {prefix: farm}":                              `hosted.prefix: "farm" cannot begin a name`,
		"hosted: {prefix: Farm.internal}":                     "cannot begin a name",
		"hosted: {prefix: farm.internal/team}":                "cannot begin a name",
		"hosted: {prefix: 'farm.internal:5000'}":              "cannot begin a name",
		"hosted: {prefix: ''}":                                "",
		"hosted: {prefix: 10.0.0.5}":                          "is an address",
		"hosted: {prefix: docker.io}":                         "hosted.prefix: docker.io is Docker Hub's",
		"hosted: {prefix: index.docker.io}":                   "is Docker Hub's",
		"hosted: {prefix: ghcr.io}\nupstreams: {ghcr.io: {}}": "hosted.prefix: ghcr.io is an upstream",
		"upstreams: {farm.internal: {}}":                      "hosted.prefix: farm.internal is an upstream",
		"hosted: {prefix: " + strings.Repeat("a.b", 30) + "}": "90 bytes long: want at most 64",
	} {
		_, err := config.Load(config.Sources{File: file(t, text)})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("Load(%q) = %v; want %q", text, err, want)
		}
	}
}

func TestCopiesOfWhatIsHosted(t *testing.T) {
	for text, want := range map[string]config.Hosted{
		"hosted: {copies: 5}":                {Copies: 5, MinCopies: 2},
		"hosted: {copies: 1}":                {Copies: 1, MinCopies: 1},
		"hosted: {copies: 4, min_copies: 4}": {Copies: 4, MinCopies: 4},
	} {
		if h := load(t, config.Sources{File: file(t, text)}).Hosted; h.Copies != want.Copies || h.MinCopies != want.MinCopies {
			t.Errorf("Load(%q) gives %d copies, at least %d; want %d and %d", text, h.Copies, h.MinCopies, want.Copies, want.MinCopies)
		}
	}
	for text, want := range map[string]string{
		"hosted: {copies: 2, min_copies: 3}": "hosted.min_copies: 3 is more than hosted.copies, which is 2",
		"hosted: {copies: 0}":                "want a whole number from 1 to 16",
		"hosted: {gc_interval: 5s}":          "5s is too short: want at least 1m0s, or 0 for never",
		"hosted: {gc_interval: -1h}":         "too short",
		"hosted: {gc_grace: 0s}":             "too short",
		"hosted: {upload_expiry: 1s}":        "too short",
	} {
		if _, err := config.Load(config.Sources{File: file(t, text)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load(%q) = %v; want %q", text, err, want)
		}
	}
	h := load(t, config.Sources{File: file(t, "hosted: {gc_interval: 0, max_upload: 10GiB, slowest_upload: 0}")}).Hosted
	if h.GCInterval != 0 || h.MaxUpload != 10<<30 || h.SlowestUpload != 0 {
		t.Errorf("Load gives %+v; want no collection, 10 GiB and no floor", h)
	}
}

func FuzzLoad(f *testing.F) {
	for _, path := range []string{"testdata/farm.yaml", "testdata/bad.yaml"} {
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(raw), "P2PD_ZONE=a\nP2PD_UPSTREAMS_GHCR_IO_URL=https://ghcr.io")
	}
	f.Add("a: &a [*a]", "P2PD_UPSTREAMS=,,a\nP2PD_UPSTREAMS__URL=x")
	f.Add("<<: {zone: a}", "P2PD_LIMITS_MEMORY=999999999999999999TiB")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text, environ string) {
		path := filepath.Join(dir, "p2pd.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(config.Sources{File: path, Environ: strings.Split(environ, "\n")})
		if bad, ok := errors.AsType[*config.Error](err); err != nil && (!ok || len(bad.Problems) == 0) {
			t.Fatalf("Load = %v; want an *Error with problems", err)
		}
		if err != nil {
			return
		}
		if _, ok := c.Upstreams[c.DefaultUpstream]; !ok || c.Farm == "" || c.Peer.Advertise == "" || len(c.Registry.Listen) == 0 ||
			c.RingPartitions < 1 || c.Limits.Memory <= 0 || c.Limits.Upload < 0 {
			t.Fatalf("Load(%q, %q) passed %+v", text, environ, c)
		}
	})
}
