package config

import (
	"strings"
	"time"
)

// Key is one key of the configuration.
type Key struct {
	// Path is its place in the file, such as "registry.listen"; <name> stands for
	// the name of an upstream.
	Path string
	// Env is its variable, with <NAME> for the upstream in upper case and with _ for
	// all but letters and digits.
	Env string
	// Flag is its flag without the dashes, "" when it has none.
	Flag string
	// Default is what holds when nobody says anything.
	Default string
	// Unit is what a value looks like.
	Unit string
	// Help is what it means, as a sentence.
	Help string
}

const (
	gossipPort    = "7946"
	perUpstream   = "upstreams.<name>."
	dockerHub     = "docker.io"
	dockerHubURL  = "https://registry-1.docker.io"
	memoryLeast   = 16 << 20
	sizeUnit      = "bytes (KiB, MiB, GiB, TiB, kB, MB, GB, TB)"
	rateUnit      = "bytes a second, 0: no limit"
	addressUnit   = "ip:port"
	durationUnit  = "duration"
	textUnit      = "text"
	defaultFarm   = "pullonce"
	trustAuto     = "auto"
	trustFiles    = "files"
	defaultMin    = 2 // of hosted.min_copies
	rootDataDir   = "/var/lib/p2pd"
	userDataDir   = "./.p2pd"
	runSocketDir  = "/run/p2pd"
	socketName    = "p2pd.sock"
	defaultConfig = "/etc/p2pd/p2pd.yaml"

	dockerHubRealm   = "https://auth.docker.io/token"
	dockerHubService = "registry.docker.io"
)

// key is a Key with what to do with its value. Exactly one of the setters is set.
type key struct {
	Key
	list     bool // takes several values
	set      func(*Config, []string) error
	upstream func(*Upstream, []string) error
}

// Keys lists all keys in the order of the file.
func Keys() []Key {
	table := keyTable()
	out := make([]Key, len(table))
	for i, k := range table {
		out[i] = k.Key
	}
	return out
}

func keyTable() []key {
	table := append(nodeKeys(), trustKeys()...)
	table = append(table, hostedKeys()...)
	table = withDoors(table)
	table = append(table, cacheKeys()...)
	table = append(table, fetchKeys()...)
	table = append(table, upstreamKeys()...)
	for i := range table {
		table[i].Env = envName(table[i].Path)
	}
	return table
}

func nodeKeys() []key {
	return []key{
		one("data_dir", "data-dir", rootDataDir+" for root, else "+userDataDir, "path", anyText,
			"Where the node keeps its blobs, its index and its id. One node only.",
			func(c *Config) *string { return &c.DataDir }),
		one("farm", "", defaultFarm, textUnit, label(true),
			"Name of the farm. Nodes of another name are refused.",
			func(c *Config) *string { return &c.Farm }),
		one("zone", "zone", "", textUnit, label(false),
			"Where the host stands, such as a rack or a room. Nodes of one zone prefer each other.",
			func(c *Config) *string { return &c.Zone }),
		many("registry.listen", "registry-listen", "127.0.0.1:5000, [::1]:5000", addressUnit, listenAddress,
			"Where container engines pull from. Without IPv6 the default is the first one alone.",
			func(c *Config) *[]string { return &c.Registry.Listen }),
		many("registry.hosts", "", "none: localhost and the addresses listened on", "host name", hostName,
			"Names under which other hosts ask the registry. A request for another name is refused with 421: a web page could have made a browser send it.",
			func(c *Config) *[]string { return &c.Registry.Hosts }),
		one("registry.first_byte_timeout", "", "10s", durationUnit, durationFrom(100*time.Millisecond),
			"How long an engine waits for the first byte of an answer at most, before it gets an error and can go elsewhere.",
			func(c *Config) *time.Duration { return &c.Registry.FirstByteTimeout }),
		one("registry.stall_timeout", "", "20s", durationUnit, durationFrom(100*time.Millisecond),
			"How long an answer may pause before its connection is cut.",
			func(c *Config) *time.Duration { return &c.Registry.StallTimeout }),
		one("registry.shutdown_grace", "", "20s", durationUnit, durationFrom(0),
			"How long running answers may go on when the node stops.",
			func(c *Config) *time.Duration { return &c.Registry.ShutdownGrace }),
		one("peer.listen", "peer-listen", "0.0.0.0:7947; 127.0.0.1:7947 on a host without a network", addressUnit, listenAddress,
			"Where other nodes reach this one.",
			func(c *Config) *string { return &c.Peer.Listen }),
		one("peer.advertise", "peer-advertise", "peer.listen, or the host's own address", addressUnit, advertiseAddress,
			"The address for peers that this node tells others.",
			func(c *Config) *string { return &c.Peer.Advertise }),
		one("gossip.listen", "gossip-listen", "0.0.0.0:7946; 127.0.0.1:7946 on a host without a network", addressUnit, listenAddress,
			"Where members are exchanged, UDP and TCP.",
			func(c *Config) *string { return &c.Gossip.Listen }),
		one("gossip.advertise", "gossip-advertise", "gossip.listen, or the host's own address", addressUnit, advertiseAddress,
			"The address for gossip that this node tells others.",
			func(c *Config) *string { return &c.Gossip.Advertise }),
		one("gossip.hold_down", "", "10m", durationUnit, durationFrom(time.Second),
			"How long a member that has gone keeps its place in the ring. A restart within it moves nothing.",
			func(c *Config) *time.Duration { return &c.Gossip.HoldDown }),
		one("admin.listen", "admin-listen", "127.0.0.1:5080", addressUnit+`, "": none`, optionalListenAddress,
			"Where /livez, /readyz, /metrics and the API for p2pctl are.",
			func(c *Config) *string { return &c.Admin.Listen }),
		one("admin.socket", "admin-socket",
			"<data_dir>/p2pd.sock; /run/p2pd/p2pd.sock for data_dir /var/lib/p2pd where /run/p2pd exists", `path, "": none`, anyText,
			"Unix socket with the API for p2pctl.",
			func(c *Config) *string { return &c.Admin.Socket }),
		many("join", "join", "none: a farm of one that others can join", "host:port", seedAddress,
			"Seeds: nodes to ask for the farm. They are asked for as long as none answers. This node may be among them.",
			func(c *Config) *[]string { return &c.Join }),
	}
}

func trustKeys() []key {
	return []key{
		one("trust.mode", "trust", "auto", "auto, files or none", oneOf("auto", "files", "none"),
			"How nodes know each other. auto: by certificates of the farm's own CA, which its first node makes. files: by certificates of yours. none: not at all, whoever reaches the addresses for peers and gossip is a member.",
			func(c *Config) *string { return &c.Trust.Mode }),
		one("trust.token", "token", "none", "token", anyText,
			"What lets this node join a farm: a line from `p2pctl token create` on any member. It is needed once, until the node has its certificate.",
			func(c *Config) *string { return &c.Trust.Token }),
		one("trust.token_file", "token-file", "none", "path", anyText,
			"File that holds the token, for those who do not want it among the arguments of a process. It need not be there once the node has its certificate.",
			func(c *Config) *string { return &c.Trust.TokenFile }),
		one("trust.ca_file", "", "none", "path", anyText,
			"Of mode files: certificates of the CAs whose nodes are members, PEM.",
			func(c *Config) *string { return &c.Trust.CAFile }),
		one("trust.cert_file", "", "none", "path", anyText,
			"Of mode files: this node's certificate, for servers and clients, with what leads to the CA. Its common name is the node's id. Read again when it changes.",
			func(c *Config) *string { return &c.Trust.CertFile }),
		one("trust.key_file", "", "none", "path", anyText,
			"Of mode files: the certificate's key.",
			func(c *Config) *string { return &c.Trust.KeyFile }),
		one("trust.gossip_key_file", "", "none", "path", anyText,
			"Of mode files: 32 bytes in hex or base64 that all nodes have, which encrypt gossip.",
			func(c *Config) *string { return &c.Trust.GossipKeyFile }),
		one("ring.partitions", "", "16384", "number", intFrom(1, 1<<20),
			"Slots of the ring. The same on all nodes for a farm's life: another number moves every blob.",
			func(c *Config) *int { return &c.RingPartitions }),
	}
}

func hostedKeys() []key {
	return []key{
		one("hosted.prefix", "", "farm.internal", `name with a dot, "": nothing can be pushed`, hostedPrefix,
			"First element of the names that can be pushed, such as farm.internal/team/app. No upstream's name. The same on all nodes.",
			func(c *Config) *string { return &c.Hosted.Prefix }),
		one("hosted.copies", "", "3", "number", intFrom(1, 16),
			"How many nodes keep each pushed blob, in smaller farms all. The same on all nodes.",
			func(c *Config) *int { return &c.Hosted.Copies }),
		one("hosted.min_copies", "", "2, or hosted.copies where that is less", "number", intFrom(1, 16),
			"How many nodes must have a pushed blob before the push is answered, while fewer than hosted.copies are up. In a farm of one 1. The same on all nodes.",
			func(c *Config) *int { return &c.Hosted.MinCopies }),
		one("hosted.max_size", "", "0", "part of the disk or "+sizeUnit+", 0: no limit but hosted.min_free", parseSize,
			"Room for what was pushed and is kept here, uploads counted. It is beside that of the cache, and never taken back by itself.",
			func(c *Config) *Size { return &c.Hosted.MaxSize }),
		one("hosted.min_free", "", "5%", "part of the disk or "+sizeUnit, parseSize,
			"Part of the disk that pushes leave to others. Cached blobs go before a push is refused.",
			func(c *Config) *Size { return &c.Hosted.MinFree }),
		one("hosted.max_upload", "", "0", sizeUnit+", 0: no limit", parseBytes,
			"Size of the largest blob that can be pushed.",
			func(c *Config) *int64 { return &c.Hosted.MaxUpload }),
		one("hosted.max_uploads", "", "4096", "number", intFrom(1, 1<<20),
			"How many uploads may be under way at this node, abandoned ones counted.",
			func(c *Config) *int { return &c.Hosted.MaxUploads }),
		one("hosted.upload_expiry", "", "24h", durationUnit, durationFrom(time.Minute),
			"After how long an upload that nobody goes on with is removed.",
			func(c *Config) *time.Duration { return &c.Hosted.UploadExpiry }),
		one("hosted.slowest_upload", "", "1MiB", "bytes a minute, 0: no floor", parseBytes,
			"How slow a push may be. One that is slower for three minutes on end is cut off, and can go on later.",
			func(c *Config) *int64 { return &c.Hosted.SlowestUpload }),
		one("hosted.repair_rate", "", "64MiB", rateUnit, parseBytes,
			"How fast the node copies hosted blobs that have lost copies to others.",
			func(c *Config) *int64 { return &c.Hosted.RepairRate }),
		one("hosted.compare_interval", "", "1m", durationUnit, durationFrom(time.Second),
			"How often nodes compare which hosted blobs they have, and mend what is missing.",
			func(c *Config) *time.Duration { return &c.Hosted.CompareInterval }),
		one("hosted.gc_interval", "", "24h", durationUnit+", 0: never", zeroOrDurationFrom(time.Minute),
			"How often blobs that no manifest needs are removed, beside `p2pctl gc`.",
			func(c *Config) *time.Duration { return &c.Hosted.GCInterval }),
		one("hosted.gc_grace", "", "1h", durationUnit, durationFrom(10*time.Minute),
			"How long a pushed blob is kept that no manifest needs yet: longer than a push takes from its first layer to its manifest. At least 10m.",
			func(c *Config) *time.Duration { return &c.Hosted.GCGrace }),
	}
}

func cacheKeys() []key {
	return []key{
		one("cache.max_size", "cache-max-size", "20%", "part of the disk or "+sizeUnit, parseSize,
			"How much the cache may take.",
			func(c *Config) *Size { return &c.Cache.MaxSize }),
		one("cache.min_free", "", "20%", "part of the disk or "+sizeUnit, parseSize,
			"How much of the disk the cache leaves free, however little it then has itself.",
			func(c *Config) *Size { return &c.Cache.MinFree }),
		one("cache.scrub_interval", "", "168h", durationUnit, durationFrom(time.Minute),
			"How often every blob on disk is read and checked.",
			func(c *Config) *time.Duration { return &c.Cache.ScrubInterval }),
		one("limits.upload", "", "0", rateUnit, parseBytes,
			"How fast the node sends to peers.",
			func(c *Config) *int64 { return &c.Limits.Upload }),
		one("limits.download", "", "0", rateUnit, parseBytes,
			"How fast the node fetches from peers.",
			func(c *Config) *int64 { return &c.Limits.Download }),
		one("limits.upstream", "", "0", rateUnit, parseBytes,
			"How fast the node fetches from all upstreams together.",
			func(c *Config) *int64 { return &c.Limits.Upstream }),
		one("limits.memory", "", "64MiB", sizeUnit, bytesAtLeast(memoryLeast),
			"How many bytes of blobs may be under way in memory. At least 16MiB.",
			func(c *Config) *int64 { return &c.Limits.Memory }),
	}
}

func fetchKeys() []key {
	return []key{
		one("default_upstream", "", dockerHub, "name of an upstream", upstreamName,
			"The upstream of names that name none. One other than docker.io must be among the upstreams.",
			func(c *Config) *string { return &c.DefaultUpstream }),
		one("egress", "", "auto", "yes, no or auto", parseEgress,
			"Whether this node can reach the upstreams. auto: it finds out.",
			func(c *Config) *string { return &c.Egress }),
		one("upstream_fallback", "", "direct", "direct or never", oneOf("direct", "never"),
			"What a node does that reaches no other: fetch for itself, or nothing, where hosts must not leave the network.",
			func(c *Config) *string { return &c.UpstreamFallback }),
		one("prefetch", "", "true", "true or false", parseBool,
			"Fetch all layers of an image once an engine has asked for its first.",
			func(c *Config) *bool { return &c.Prefetch }),
		one("mirror_auth", "", "off", "off or bearer", parseMirrorAuth,
			"Whether engines are asked for their user's login before they may ask anything of the default upstream. off: what is private is left to them to get at the upstream itself.",
			func(c *Config) *string { return &c.MirrorAuth }),
		one("log.level", "log-level", "info", "debug, info, warn or error", parseLevel,
			"The least that is logged.",
			func(c *Config) *logLevel { return &c.Log.Level }),
		one("log.format", "", "auto", "auto, text or json", oneOf("auto", "text", "json"),
			"auto: text on a terminal, else json.",
			func(c *Config) *string { return &c.Log.Format }),
	}
}

func upstreamKeys() []key {
	return []key{
		upOne("url", "https://<name>; "+dockerHubURL+" for docker.io", "URL", upstreamURL,
			"Where the upstream is.",
			func(u *Upstream) *string { return &u.URL }),
		upOne("tag_ttl", "1m", durationUnit, durationFrom(0),
			"For how long the farm takes a tag to mean what it meant. 0: ask every time.",
			func(u *Upstream) *time.Duration { return &u.TagTTL }),
		upOne("proxy", "none", "URL", proxyURL,
			"Proxy on the way to the upstream: http, https or socks5.",
			func(u *Upstream) *string { return &u.Proxy }),
		upMany("no_proxy", "none", "hosts", anyText,
			"Hosts, domains and networks that are reached without the proxy.",
			func(u *Upstream) *[]string { return &u.NoProxy }),
		upOne("ca_file", "none: the host's", "path", anyText,
			"Certificates to trust for this upstream, PEM, besides the host's.",
			func(u *Upstream) *string { return &u.CAFile }),
		upOne("username", "none: anonymous", textUnit, anyText,
			"User that the farm pulls as.",
			func(u *Upstream) *string { return &u.Username }),
		upOne("password_file", "none", "path", anyText,
			"File that holds the password or access token of that user. Asked for where no rule of credentials matches.",
			func(u *Upstream) *string { return &u.PasswordFile }),
		{
			Key: Key{
				Path: perUpstream + credentialsKey, Default: "none", Unit: "list of rules; JSON in the environment",
				Help: "Whose credentials the farm uses for which repositories: the first rule that matches. See below.",
			},
			upstream: setCredentials,
		},
		{
			Key: Key{
				Path: perUpstream + "shared", Default: "none", Unit: "true, false or list of patterns such as team/*",
				Help: "Repositories that the farm may give to everybody who can ask it, although the upstream would refuse them. true: all that its credentials can read.",
			},
			list: true, upstream: setShared,
		},
		upOne("auth_ttl", "5m", durationUnit, durationFrom(0),
			"How long it is remembered that the upstream lets a client read a private repository.",
			func(u *Upstream) *time.Duration { return &u.AuthTTL }),
		upOne("auth_stale", "1h", durationUnit, durationFrom(0),
			"How much longer that holds while the upstream cannot be asked.",
			func(u *Upstream) *time.Duration { return &u.AuthStale }),
		upOne("auth_realm", "none: as the upstream says; "+dockerHubRealm+" for docker.io", "URL", realmURL,
			"Token service that clients are sent to, and that the farm's credentials may go to.",
			func(u *Upstream) *string { return &u.AuthRealm }),
		upOne("auth_service", "none; "+dockerHubService+" for docker.io", textUnit, anyText,
			"Name of the registry at that token service.",
			func(u *Upstream) *string { return &u.AuthService }),
		upOne("max_concurrent", "16", "number", intFrom(1, 10000),
			"How many requests this node has under way to the upstream at once.",
			func(u *Upstream) *int { return &u.MaxConcurrent }),
		upOne("rate", "0", rateUnit, parseBytes,
			"How fast this node fetches from the upstream.",
			func(u *Upstream) *int64 { return &u.Rate }),
		upOne("connections", "4", "number", intFrom(1, 64),
			"How many connections may read parts of one blob at once, where one does not fill the link.",
			func(u *Upstream) *int { return &u.Connections }),
	}
}

// envName is the rule that makes a variable of a path.
func envName(path string) string {
	upper := strings.ToUpper(path)
	return "P2PD_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '<', r == '>':
			return r
		}
		return '_'
	}, upper)
}
