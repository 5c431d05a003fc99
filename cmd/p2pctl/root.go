package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pullonce/pullonce/adminapi"
)

// defaultSockets is where a node's socket is looked for, best first: that of an installed node, then that of one that
// was started in this directory.
var defaultSockets = []string{"/run/p2pd/p2pd.sock", "/var/lib/p2pd/p2pd.sock", "./.p2pd/p2pd.sock"}

const (
	defaultHTTP = "http://127.0.0.1:5080"
	addressEnv  = "P2PCTL_ADDRESS"
	tokenEnv    = "P2PCTL_ADMIN_TOKEN_FILE"
)

// options are the flags that all commands share, and where results go.
type options struct {
	socket, address string
	tokenFile       string
	output          string
	timeout         time.Duration
	stdout, stderr  io.Writer
}

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	o := &options{stdout: stdout, stderr: stderr}
	root := &cobra.Command{
		Use:   "p2pctl",
		Short: "Show and steer the farm, by asking the node on this host",
		Long: `p2pctl shows and steers the farm, by asking the node on this host.

It looks for the node at --socket or --address, else at ` + addressEnv + ` in the
environment, else at the socket /run/p2pd/p2pd.sock, /var/lib/p2pd/p2pd.sock or
./.p2pd/p2pd.sock, whichever answers, else at ` + defaultHTTP + `.

Over HTTP a node changes nothing and gives no backup, unless it has an admin token and is sent it: the
one in the file at --admin-token-file, else at ` + tokenEnv + `.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 degraded (a member did not
answer, an alarm, a ring that differs, an upstream that no member reaches, a
catalog in trouble, hosted blobs below their copies, a certificate that was not
renewed), 4 no node answers.`,
		SilenceUsage: true, SilenceErrors: true,
		Args:              cobra.NoArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error { return o.check() },
		RunE:              func(*cobra.Command, []string) error { return errors.New("a command is needed") },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&o.socket, "socket", "", "path of the node's unix socket")
	flags.StringVar(&o.address, "address", "", "address of the node: unix:///path or http://host:port")
	flags.StringVar(&o.tokenFile, "admin-token-file", "", "file with the node's admin token, for changes over HTTP")
	flags.StringVarP(&o.output, "output", "o", "table", "how to show results: table or json")
	flags.DurationVar(&o.timeout, "timeout", 2*time.Second, "how long nodes may take to say how they are")
	root.MarkFlagsMutuallyExclusive("socket", "address")
	root.AddCommand(newStatus(o), newMembers(o), newCatalog(o), newGC(o), newToken(o), newNode(o), newKey(o), newTrust(o), newVersion(o))
	return root
}

// check finds what is wrong with the flags.
func (o *options) check() error {
	if o.output != "table" && o.output != "json" {
		return fmt.Errorf("unknown output %q: want table or json", o.output)
	}
	if o.timeout <= 0 {
		return fmt.Errorf("timeout is %v, must be above 0", o.timeout)
	}
	_, err := o.client()
	return err
}

// maxTokenBytes bounds a file with an admin token.
const maxTokenBytes = 4096

// client is one of the node that the flags and the environment name, with the admin token that they name.
func (o *options) client() (*adminapi.Client, error) {
	client, err := o.bareClient()
	if err != nil {
		return nil, err
	}
	path := cmp.Or(o.tokenFile, os.Getenv(tokenEnv))
	if path == "" || strings.HasPrefix(client.Address(), "unix:") {
		return client, nil
	}
	token, err := readToken(path)
	if err != nil {
		return nil, err
	}
	if !client.Loopback() {
		return nil, fmt.Errorf("admin token: it is not sent to %s, since HTTP beyond this host is not encrypted", client.Address())
	}
	return client.WithToken(token), nil
}

func readToken(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	defer func() { _ = file.Close() }()
	raw, err := io.ReadAll(io.LimitReader(file, maxTokenBytes))
	if err != nil {
		return "", fmt.Errorf("admin token: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	if token == "" || len(raw) == maxTokenBytes || strings.ContainsAny(token, "\r\n") {
		return "", fmt.Errorf("admin token: %s has not one line with it", path)
	}
	return token, nil
}

// bareClient is a client without a token.
func (o *options) bareClient() (*adminapi.Client, error) {
	switch {
	case o.address != "":
		return adminapi.NewClient(o.address)
	case o.socket != "":
		return socketClient(o.socket)
	}
	if address := os.Getenv(addressEnv); address != "" {
		c, err := adminapi.NewClient(address)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", addressEnv, err)
		}
		return c, nil
	}
	if path := firstSocket(defaultSockets); path != "" {
		return socketClient(path)
	}
	return adminapi.NewClient(defaultHTTP)
}

func socketClient(path string) (*adminapi.Client, error) {
	whole, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("socket %q: %w", path, err)
	}
	return adminapi.NewClient("unix://" + whole)
}

// dialTime is how long a socket may take to be connected to. Connecting asks the kernel alone.
const dialTime = time.Second

// firstSocket is the first of the paths at whose socket a node listens that this user may ask, or "". A node that was
// killed leaves its socket behind.
func firstSocket(paths []string) string {
	for _, path := range paths {
		if c, err := net.DialTimeout("unix", path, dialTime); err == nil { //nolint:noctx // it asks the kernel alone
			_ = c.Close()
			return path
		}
	}
	return ""
}
