package config

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Sources are what a configuration is made of.
type Sources struct {
	// File is the path of the configuration file, "" for P2PD_CONFIG in Environ or
	// else /etc/p2pd/p2pd.yaml where that exists.
	File string
	// Environ is the environment, as os.Environ gives it.
	Environ []string
	// Flags are the flags that were given, without dashes, by name.
	Flags map[string]string
	// Root says that the program runs as root, which decides where data goes by
	// default.
	Root bool
}

// FromProcess returns the Sources of this process, without flags.
func FromProcess() Sources {
	return Sources{Environ: os.Environ(), Root: os.Geteuid() == 0}
}

// Load reads and checks a whole configuration. The error is an *Error that names
// everything that is wrong; then the Config is not to be used.
func Load(s Sources) (Config, error) {
	l := newLoader()
	l.load(s)
	l.finish(s)
	return l.config, l.problems.err()
}

// loader applies the sources one after the other.
type loader struct {
	config   Config
	keys     map[string]*key // by path
	sections map[string]bool
	said     map[string]origin // where each path was last said
	bad      map[string]bool   // paths with a value that could not be read
	problems problems
}

func newLoader() *loader {
	l := &loader{
		keys: make(map[string]*key), sections: map[string]bool{"upstreams": true},
		said: make(map[string]origin), bad: make(map[string]bool),
	}
	for _, k := range keyTable() {
		l.keys[k.Path] = &k
		for i, c := range k.Path {
			if c == '.' {
				l.sections[k.Path[:i]] = true
			}
		}
	}
	l.config.Upstreams = make(map[string]Upstream)
	l.applyDefaults()
	return l
}

// applyDefaults applies the defaults that are values; finish works out the others.
func (l *loader) applyDefaults() {
	for path, k := range l.keys {
		if k.set == nil || slices.Contains(workedOut, path) || strings.HasPrefix(k.Default, "none") {
			continue
		}
		if err := k.set(&l.config, []string{k.Default}); err != nil {
			panic(fmt.Sprintf("config: default of %s: %v", path, err))
		}
	}
}

// workedOut are the keys whose defaults depend on other keys or on the host.
var workedOut = []string{
	"data_dir", "registry.listen", "peer.listen", "peer.advertise", "gossip.listen", "gossip.advertise",
	"admin.socket", "zone", "hosted.min_copies",
}

func (l *loader) load(s Sources) {
	environment := split(s.Environ)
	path, required := s.File, true
	if path == "" {
		path = environment["P2PD_CONFIG"]
	}
	if path == "" {
		path, required = defaultConfig, false
	}
	raw, err := readFile(path, required)
	if err != nil {
		l.problems.add(origin{kind: fromFile, name: path}, "", "cannot be read: "+err.Error())
	}
	l.file(path, raw)
	l.environment(environment)
	l.flags(s.Flags)
}

// split makes a map of those variables that are this program's.
func split(environ []string) map[string]string {
	vars := make(map[string]string)
	for _, v := range environ {
		name, value, ok := strings.Cut(v, "=")
		if ok && strings.HasPrefix(name, "P2PD_") && !fromKubernetes(name) {
			vars[name] = value
		}
	}
	return vars
}

// fromKubernetes knows the variables that Kubernetes sets in every container for a
// service named p2pd.
func fromKubernetes(name string) bool {
	return name == "P2PD_PORT" || strings.HasPrefix(name, "P2PD_PORT_") || strings.HasPrefix(name, "P2PD_SERVICE_")
}

func (l *loader) environment(vars map[string]string) {
	byName := make(map[string]*key)
	for _, k := range l.keys {
		byName[k.Env] = k
	}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		at := origin{kind: fromEnvironment, name: name}
		switch k := byName[name]; {
		case name == "P2PD_CONFIG":
		case k != nil:
			l.apply(at, k, k.Path, "", l.values(k, vars[name]))
		case name == "P2PD_UPSTREAMS":
			for _, upstream := range splitList(vars[name]) {
				l.addUpstream(at, upstream)
			}
		case strings.HasPrefix(name, "P2PD_UPSTREAMS_"):
			l.upstreamVariable(at, name, vars[name])
		default:
			l.problems.add(at, "", "no such key")
		}
	}
}

// upstreamVariable finds the upstream that a variable means: one of those there
// are, or else a new one whose name has dots where the variable has _.
func (l *loader) upstreamVariable(at origin, name, value string) {
	rest := strings.TrimPrefix(name, "P2PD_UPSTREAMS_")
	var found *key
	var mangled string
	for _, k := range l.keys {
		suffix := "_" + strings.ToUpper(strings.TrimPrefix(k.Path, perUpstream))
		before, ok := strings.CutSuffix(rest, suffix)
		// NO_PROXY ends in PROXY: the longer name is meant.
		if ok && k.upstream != nil && before != "" && (found == nil || len(k.Path) > len(found.Path)) {
			found, mangled = k, before
		}
	}
	if found == nil {
		l.problems.add(at, "", "no such key")
		return
	}
	upstream := strings.ReplaceAll(strings.ToLower(mangled), "_", ".")
	for _, known := range slices.Sorted(maps.Keys(l.config.Upstreams)) {
		if strings.TrimPrefix(envName(known), "P2PD_") == mangled {
			upstream = known
		}
	}
	if l.addUpstream(at, upstream) {
		path := strings.Replace(found.Path, "<name>", upstream, 1)
		l.apply(at, found, path, upstream, l.values(found, value))
	}
}

func (l *loader) flags(flags map[string]string) {
	byFlag := make(map[string]*key)
	for _, k := range l.keys {
		if k.Flag != "" {
			byFlag[k.Flag] = k
		}
	}
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		at := origin{kind: fromFlag, name: name}
		if k, ok := byFlag[name]; ok {
			l.apply(at, k, k.Path, "", l.values(k, flags[name]))
		} else {
			l.problems.add(at, "", "no such flag")
		}
	}
}

// values are those of one text: of a list separated by commas, or the text.
func (l *loader) values(k *key, text string) []string {
	if k.list {
		return splitList(text)
	}
	return []string{text}
}

func splitList(text string) []string {
	var out []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			out = append(out, item)
		}
	}
	return out
}

// apply sets one key from one source. Variables and flags name the key already.
func (l *loader) apply(at origin, k *key, path, upstream string, texts []string) {
	var err error
	if k.upstream != nil {
		u := l.config.Upstreams[upstream]
		err = k.upstream(&u, texts)
		l.config.Upstreams[upstream] = u
	} else {
		err = k.set(&l.config, texts)
	}
	if err != nil {
		l.problem(at, path, err.Error())
		l.bad[path] = true
	}
	l.said[path] = at
}

// problem reports one; a variable or a flag of a key already names the key.
func (l *loader) problem(at origin, path, text string) {
	if at.kind == fromEnvironment || at.kind == fromFlag {
		path = ""
	}
	l.problems.add(at, path, text)
}

// addUpstream makes an upstream with that name unless there is one, and says
// whether there can be.
func (l *loader) addUpstream(at origin, name string) bool {
	if _, ok := l.config.Upstreams[name]; ok {
		return true
	}
	if _, err := upstreamName(name); err != nil {
		l.problems.add(at, "upstreams", err.Error())
		return false
	}
	var u Upstream
	for _, k := range l.keys {
		if k.upstream == nil || k.Path == perUpstream+"url" || strings.HasPrefix(k.Default, "none") {
			continue
		}
		if err := k.upstream(&u, []string{k.Default}); err != nil {
			panic(fmt.Sprintf("config: default of %s: %v", k.Path, err))
		}
	}
	u.URL = "https://" + name
	if name == dockerHub {
		u.URL = dockerHubURL
	}
	l.config.Upstreams[name] = u
	return true
}

func (l *loader) isSection(path string) bool { return l.sections[path] }

// example names a key below a section.
func (l *loader) example(section string) string {
	for _, k := range Keys() {
		if rest, ok := strings.CutPrefix(k.Path, section+"."); ok {
			return rest
		}
	}
	return "url"
}

// unknown reports a key that there is not, and the one that was most likely meant.
func (l *loader) unknown(at origin, path string) {
	text := "no such key"
	last := afterLast(path, ".")
	for _, k := range Keys() {
		if other := afterLast(k.Path, "."); k.Path != path && (other == last || near(other, last)) {
			text = "no such key; did you mean " + k.Path + "?"
			break
		}
	}
	l.problems.add(at, path, text)
}

// afterLast is what follows the last sep of s; all of s when there is none.
func afterLast(s, sep string) string {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[i+len(sep):]
	}
	return s
}

// near says that two names differ in - and _, in case, or in one letter at the end.
func near(a, b string) bool {
	plain := func(s string) string { return strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(s)) }
	a, b = plain(a), plain(b)
	return a == b || a == b+"s" || b == a+"s"
}

// ownAddress returns the address of this host that others most likely reach: that
// of the route to the first seed given as an address, else the first IPv4 address
// of an interface other than loopback. It sends nothing.
func ownAddress(seeds []string) (netip.Addr, bool) {
	for _, seed := range seeds {
		a, err := netip.ParseAddrPort(seed)
		if err != nil || a.Addr().IsLoopback() {
			continue
		}
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(a))
		if err != nil {
			continue
		}
		local := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
		_ = conn.Close()
		return local, true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, false
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			return p.Addr(), true
		}
	}
	return netip.Addr{}, false
}
