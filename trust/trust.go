package trust

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"
)

// Mode is where a farm's trust comes from.
type Mode string

// The modes. A node of mode none has no Trust at all.
const (
	Auto Mode = "auto"  // the farm makes its own authority
	Own  Mode = "files" // the site's PKI, in files
	None Mode = "none"  // no trust: everybody is believed
)

// ProtocolJoin is what a connection to the join door asks for by ALPN.
const ProtocolJoin = "pullonce-join/1"

// ErrNotMember says that this node has no certificate that would let it speak to members now.
var ErrNotMember = errors.New("not a member of the farm")

// Files name what a site's PKI gives to this node, for mode files. All are PEM but the gossip key. They are read again
// when they change.
type Files struct {
	CA   string // authorities whose certificates are members; one or several
	Cert string // this node's certificate, followed by what leads to one of CA if needed
	Key  string // its key
	// GossipKey has 32 bytes as hex or base64, one key a line: the first is for sending, all are for receiving.
	GossipKey string
}

// Config says who this node is. Dir and Farm must be set, Node in mode auto.
type Config struct {
	// Dir is the data directory; what is kept is in trust/ below it.
	Dir string
	// Node is the node's id, 1 to 64 bytes of printable text. In mode files it may be empty: the certificate says it.
	Node string
	// Farm is the farm's name, 1 to 64 bytes of printable text.
	Farm  string
	Mode  Mode
	Files Files

	// Lifetime is for how long certificates are good (0: 30 days), from Back before they were made (0: 24 h), so that
	// clocks may differ.
	Lifetime, Back time.Duration
	// Grace is for how long a certificate that has run out may still renew (0: 90 days).
	Grace time.Duration

	// Expect tells whose node should be at an address of the peer door. Another one's certificate is refused there. Nil,
	// or not ok: any member will do. It must not block.
	Expect func(address string) (id string, ok bool)

	// Handshakes is how many connections may be between accepting and the end of their handshake (0: 256), and
	// HandshakesPerAddress how many of them from one address (0: 64). When there is no room, one that has said nothing
	// yet is closed for the new one, or else one that has been at it for a second, or else the new one.
	Handshakes, HandshakesPerAddress int
	// HandshakeTimeout is when a handshake is given up (0: 5 s).
	HandshakeTimeout time.Duration
}

// withDefaults fills in what is zero and has a default.
func (c Config) withDefaults() Config {
	setDefault(&c.Mode, Auto)
	setDefault(&c.Lifetime, 30*24*time.Hour)
	setDefault(&c.Back, 24*time.Hour)
	setDefault(&c.Grace, 90*24*time.Hour)
	setDefault(&c.Handshakes, 256)
	setDefault(&c.HandshakesPerAddress, 64)
	setDefault(&c.HandshakeTimeout, 5*time.Second)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports all that is wrong with c.
func (c Config) Validate() error {
	var found []error
	if c.Dir == "" {
		found = append(found, errors.New("no data directory"))
	}
	if err := checkName(c.Farm); err != nil {
		found = append(found, fmt.Errorf("farm: %w", err))
	}
	if err := checkName(c.Node); err != nil && (c.Mode != Own || c.Node != "") {
		found = append(found, fmt.Errorf("node: %w", err))
	}
	switch c.Mode {
	case Auto, "":
	case Own:
		if c.Files.CA == "" || c.Files.Cert == "" || c.Files.Key == "" || c.Files.GossipKey == "" {
			found = append(found, errors.New("mode files needs the files of the authorities, the certificate, its key and the gossip key"))
		}
	default:
		found = append(found, fmt.Errorf("no trust in mode %q", c.Mode))
	}
	if c.Lifetime < 0 || c.Back < 0 || c.Grace < 0 || c.Handshakes < 0 || c.HandshakesPerAddress < 0 || c.HandshakeTimeout < 0 {
		found = append(found, errors.New("a time or number is negative"))
	}
	return errors.Join(found...)
}

// A Trust is one node's part in the trust of its farm.
type Trust struct {
	cfg  Config
	log  *slog.Logger
	disk disk
	node string // this node's id

	view atomic.Pointer[view]     // what the farm has agreed on; never nil
	own  atomic.Pointer[identity] // nil: this node has no certificate

	open        *live
	refused     *refusals
	peers, door *handshakes // of members, and of the join door: neither takes the other's room

	// turn is taken by who changes what is kept on disk. It is no lock, as files are written meanwhile: who reads goes by
	// the pointers above.
	turn chan struct{}
	mark mark // of the files that were read last, in mode files; who has the turn looks at it

	serving serving // what the registry shows to its clients
	dues    dues    // what holds and is not on disk yet

	clerk *clerk // what deals with the catalog and with other nodes
}

// Open reads what a node keeps of its farm's trust below cfg.Dir, or the files of mode files. It makes nothing.
func Open(cfg Config, log *slog.Logger) (*Trust, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open trust: %w", err)
	}
	cfg = cfg.withDefaults()
	t := &Trust{
		cfg: cfg, log: log, node: cfg.Node, disk: disk{filepath.Join(cfg.Dir, "trust")},
		open: newLive(), refused: newRefusals(log), turn: make(chan struct{}, 1), clerk: newClerk(),
		serving: serving{kick: make(chan struct{}, 1)}, dues: dues{kick: make(chan struct{}, 1)},
		peers: &handshakes{limit: cfg.Handshakes, perAddress: cfg.HandshakesPerAddress},
		door:  &handshakes{limit: cfg.Handshakes, perAddress: cfg.HandshakesPerAddress},
	}
	if err := t.load(); err != nil {
		return nil, fmt.Errorf("open trust: %w", err)
	}
	return t, nil
}

// load reads what is on disk.
func (t *Trust) load() error {
	if err := t.disk.tighten(); err != nil {
		return err
	}
	s, err := t.loadState()
	if err != nil {
		return err
	}
	v, err := newView(s)
	if err != nil {
		return fmt.Errorf("read %s: %w", stateFile, err)
	}
	t.view.Store(v)
	if t.cfg.Mode == Own {
		return t.loadSite()
	}
	return t.loadOwn(v)
}

// loadSite reads the files of a site's PKI, which say who this node is.
func (t *Trust) loadSite() error {
	if _, err := t.reload(); err != nil {
		return err
	}
	t.node = t.own.Load().id
	warnOfRights(t.log, t.cfg.Files.Key, t.cfg.Files.GossipKey)
	return nil
}

// loadOwn reads this node's certificate, if it has one.
func (t *Trust) loadOwn(v *view) error {
	raw, err := t.disk.read(nodeCert)
	if err != nil || raw == nil {
		return err
	}
	chain, err := decodeCertificates(raw)
	if err != nil {
		return fmt.Errorf("%s is damaged: %w", nodeCert, err)
	}
	key, err := t.readKey()
	if err != nil {
		return err
	}
	if key == nil {
		return fmt.Errorf("there is a %s but no %s; with an empty directory %s the node joins anew", nodeCert, nodeKey, t.disk.dir)
	}
	own, err := t.newOwn(v, chain, key)
	if err != nil {
		return fmt.Errorf("read %s: %w; with an empty directory %s the node joins anew", nodeCert, err, t.disk.dir)
	}
	t.own.Store(own)
	return nil
}

// takeTurn waits until nobody else changes what is on disk; the caller gives the turn back. Each turn is short.
func (t *Trust) takeTurn() (giveBack func()) {
	t.turn <- struct{}{}
	return func() { <-t.turn }
}

// Node is this node's id.
func (t *Trust) Node() string { return t.node }

// Mode is where the farm's trust comes from.
func (t *Trust) Mode() Mode { return t.cfg.Mode }

// Member tells whether this node has a certificate of its farm that is good now.
func (t *Trust) Member() bool { return t.own.Load().good(time.Now()) }

// maxName is how long the name of a farm and the id of a node may be: what a certificate's common name may hold.
const maxName = 64

// checkName tells what is wrong with the name of a farm or the id of a node.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("is empty")
	case len(name) > maxName:
		return fmt.Errorf("%.20q… is %d bytes long: want at most %d", name, len(name), maxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("%q is not text", name)
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("%q is not printable", name)
		}
	}
	return nil
}
