package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"
)

const (
	// maxAnswerBytes bounds an answer: some 10 times what the status of a farm of a thousand takes.
	maxAnswerBytes = 64 << 20
	// answerSlack is how long an answer may take beyond the time that members were given.
	answerSlack = 3 * time.Second
)

// An UnreachableError says that nobody answers at the address.
type UnreachableError struct {
	Address string
	Err     error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no node answers at %s: %v", e.Address, e.Err)
}
func (e *UnreachableError) Unwrap() error { return e.Err }

// A Client asks one node. Its methods wait for timeout and a little more, with 0 for as long as ctx lets them, as those
// do that have no timeout. Their
// errors are *UnreachableError when nobody answers, *AnswerError when the node refuses, or say what is wrong with the
// answer.
type Client struct {
	address string // as given
	base    string // of URLs
	http    *http.Client
	token   string // "" for none
}

// NewClient makes a client of the node at address, which is unix:///path or http://host:port. It connects to nobody
// yet, and never by way of a proxy.
func NewClient(address string) (*Client, error) {
	transport := &http.Transport{
		DisableCompression: true, MaxIdleConns: 1, IdleConnTimeout: 10 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
	c := &Client{address: address, http: &http.Client{Transport: transport, CheckRedirect: noRedirect}}
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		if !filepath.IsAbs(path) {
			return nil, fmt.Errorf("address %q: want unix:///path", address)
		}
		c.base = "http://localhost"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		return c, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" ||
		u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("address %q: want unix:///path or http://host:port", address)
	}
	c.base = "http://" + u.Host
	return c, nil
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Address is where the client asks, as it was given.
func (c *Client) Address() string { return c.address }

// Status asks for the farm, whose members may take timeout to answer (0: what the node thinks right).
func (c *Client) Status(ctx context.Context, timeout time.Duration) (FarmStatus, error) {
	path := "/v1/status"
	if timeout > 0 {
		path += "?timeout=" + timeout.String()
	}
	var s FarmStatus
	err := c.get(ctx, path, timeout, &s, &s.SchemaVersion)
	return s, err
}

// Node asks for the node's own view.
func (c *Client) Node(ctx context.Context, timeout time.Duration) (NodeStatus, error) {
	var s Self
	err := c.get(ctx, "/v1/node", timeout, &s, &s.SchemaVersion)
	return s.NodeStatus, err
}

// Members asks for the members that the node knows.
func (c *Client) Members(ctx context.Context, timeout time.Duration) (MemberList, error) {
	var l MemberList
	err := c.get(ctx, "/v1/members", timeout, &l, &l.SchemaVersion)
	return l, err
}

// Version asks for the node's release.
func (c *Client) Version(ctx context.Context, timeout time.Duration) (Version, error) {
	var v Version
	err := c.get(ctx, "/v1/version", timeout, &v, &v.SchemaVersion)
	return v, err
}

// get reads one document into v, of which schema is a part.
func (c *Client) get(ctx context.Context, path string, timeout time.Duration, v any, schema *int) error {
	limited := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, timeout+answerSlack)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(limited, http.MethodGet, c.base+path, nil)
	if err != nil {
		return err
	}
	status, body, err := c.fetch(req)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err() // the caller's own doing
		}
		return c.unreachable(err, timeout+answerSlack)
	}
	return c.read(status, body, v, schema)
}

// read makes a document or an error of an answer.
func (c *Client) read(status int, body []byte, v any, schema *int) error {
	if status != http.StatusOK {
		return c.refusal(status, body)
	}
	if err := json.Unmarshal(body, v); err != nil || *schema == 0 {
		return fmt.Errorf("what answers at %s is not a node of Pullonce", c.address)
	}
	if *schema != SchemaVersion {
		return fmt.Errorf("the node at %s speaks version %d of this API, this program %d", c.address, *schema, SchemaVersion)
	}
	return nil
}

func (c *Client) fetch(req *http.Request) (status int, body []byte, err error) {
	res, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes+1))
	if err == nil && len(body) > maxAnswerBytes {
		err = fmt.Errorf("answer of more than %d bytes", maxAnswerBytes)
	}
	return res.StatusCode, body, err
}

// unreachable says in few words why there is no answer.
func (c *Client) unreachable(err error, waited time.Duration) *UnreachableError {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("it took longer than %v: %w", waited, context.DeadlineExceeded)
	} else if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		err = op.Err // the address is named already
	}
	return &UnreachableError{Address: c.address, Err: err}
}

// refusal is the error that the node sent.
func (c *Client) refusal(status int, body []byte) error {
	var e errorBody
	if err := json.Unmarshal(body, &e); err != nil || e.Error == nil || e.Error.Code == "" {
		return fmt.Errorf("what answers at %s is not a node of Pullonce (HTTP status %d)", c.address, status)
	}
	e.Error.Status = status
	return fmt.Errorf("node at %s: %w", c.address, e.Error)
}
