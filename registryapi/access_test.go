package registryapi_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/pullonce/pullonce/access"
	"github.com/pullonce/pullonce/oci"
	"github.com/pullonce/pullonce/registryapi"
)

func basicOf(user string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":password of "+user))
}

// usersOf is a file's worth of users, each with the password of basicOf.
func usersOf(t testing.TB, names ...string) *access.Users {
	t.Helper()
	var text strings.Builder
	for _, name := range names {
		hashed, err := bcrypt.GenerateFromPassword([]byte("password of "+name), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "%s:%s\n", name, hashed)
	}
	path := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	users, err := access.OpenUsers(path)
	if err != nil {
		t.Fatal(err)
	}
	return users
}

func rule(t testing.TB, match, who string, allow access.Action) access.Rule {
	t.Helper()
	p, err := access.ParsePattern(match)
	if err != nil {
		t.Fatal(err)
	}
	return access.Rule{Match: p, Who: []string{who}, Allow: allow}
}

const allActions = access.Read | access.Write | access.Delete

// withUsers is a farm's configuration: alice may do all in team/*, bob read there, both all elsewhere, nobody else
// anything below team.
func withUsers(t testing.TB) registryapi.Config {
	cfg := hostedConfig()
	cfg.Access = access.NewPolicy(access.Parts{
		Prefix: hostedPrefix, Users: usersOf(t, "alice", "bob"),
		Rights: access.Rights{rule(t, "team/*", "alice", allActions), rule(t, "team/*", "bob", access.Read)},
	}, slog.New(slog.DiscardHandler))
	return cfg
}

// send sends a request to a host name; header is pairs of names and values.
func send(t testing.TB, server *httptest.Server, host, method, path string, body io.Reader, header ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := server.Client().Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: reading the body: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, resp.ContentLength, string(raw)}
}

const manifestType = "application/vnd.oci.image.manifest.v1+json"

// pushAs pushes an image of one config to a hosted repository and is its blob's and its manifest's digest.
func pushAs(t testing.TB, server *httptest.Server, authorization, path, tag string) (blob, manifest oci.Digest) {
	t.Helper()
	config := "{\"of\":\"" + path + "\"}"
	blob = oci.FromBytes(oci.SHA256, []byte(config))
	raw := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"a/b","digest":%q,"size":%d},"layers":[]}`, manifestType, blob, len(config))
	base := "/v2/" + hostedPrefix + "/" + path
	header := []string{"Authorization", authorization}
	if a := send(t, server, "localhost", "POST", base+"/blobs/uploads/?digest="+blob.String(), strings.NewReader(config), header...); a.status != http.StatusCreated {
		t.Fatalf("pushing a blob to %s: %d %s", path, a.status, a.body)
	}
	header = append(header, "Content-Type", manifestType)
	if a := send(t, server, "localhost", "PUT", base+"/manifests/"+tag, strings.NewReader(raw), header...); a.status != http.StatusCreated {
		t.Fatalf("pushing a manifest to %s: %d %s", path, a.status, a.body)
	}
	return blob, oci.FromBytes(oci.SHA256, []byte(raw))
}

// everyRequest is one of each kind that a hosted repository has, with the action that it needs.
func everyRequest(path string, blob, manifest oci.Digest, upload string) map[string]access.Action {
	base := "/v2/" + hostedPrefix + "/" + path
	return map[string]access.Action{
		"GET " + base + "/manifests/1": access.Read, "HEAD " + base + "/manifests/1": access.Read,
		"GET " + base + "/manifests/" + manifest.String(): access.Read, "HEAD " + base + "/manifests/" + manifest.String(): access.Read,
		"GET " + base + "/blobs/" + blob.String(): access.Read, "HEAD " + base + "/blobs/" + blob.String(): access.Read,
		"GET " + base + "/tags/list": access.Read, "GET " + base + "/referrers/" + manifest.String(): access.Read,
		"POST " + base + "/blobs/uploads/": access.Write, "POST " + base + "/blobs/uploads/?digest=" + blob.String(): access.Write,
		"POST " + base + "/blobs/uploads/?mount=" + blob.String(): access.Write,
		"GET " + base + "/blobs/uploads/" + upload:                access.Write, "PATCH " + base + "/blobs/uploads/" + upload: access.Write,
		"PUT " + base + "/blobs/uploads/" + upload + "?digest=" + blob.String(): access.Write, "DELETE " + base + "/blobs/uploads/" + upload: access.Write,
		"PUT " + base + "/manifests/2":    access.Write,
		"DELETE " + base + "/manifests/1": access.Delete, "DELETE " + base + "/manifests/" + manifest.String(): access.Delete, "DELETE " + base + "/blobs/" + blob.String(): access.Delete,
	}
}

// What may not be done is refused before anything is looked at: alike for what there is and what there is not.
func TestEveryRequestOfAHostedRepositoryIsCheckedAndNoAnswerTellsWhatThereIs(t *testing.T) {
	server := serveFarm(t, withUsers(t), newFarm(t, nil))
	blob, manifest := pushAs(t, server, basicOf("alice"), "team/app", "1")
	started := send(t, server, "localhost", "POST", "/v2/"+hostedPrefix+"/team/app/blobs/uploads/", nil, "Authorization", basicOf("alice"))
	upload := started.header.Get("Docker-Upload-UUID")
	if upload == "" {
		t.Fatalf("no upload: %d %s", started.status, started.body)
	}
	for request, action := range everyRequest("team/app", blob, manifest, upload) {
		method, target, _ := strings.Cut(request, " ")
		for who, c := range map[string]struct {
			header []string
			status int
			code   string
			may    access.Action
		}{
			"nobody": {nil, http.StatusUnauthorized, "UNAUTHORIZED", 0},
			"bob":    {[]string{"Authorization", basicOf("bob")}, http.StatusForbidden, "DENIED", access.Read},
		} {
			if c.may&action != 0 {
				if got := send(t, server, "localhost", method, target, nil, c.header...); got.status != http.StatusOK {
					t.Errorf("%s by %s: %d %s; want 200", request, who, got.status, got.body)
				}
				continue
			}
			got := send(t, server, "localhost", method, target, strings.NewReader(""), c.header...)
			other := send(t, server, "localhost", method, strings.ReplaceAll(target, "team/app", "team/none"), strings.NewReader(""), c.header...)
			if method == "HEAD" {
				if got.status != c.status || got.body != "" {
					t.Errorf("%s by %s: %d %q; want %d without a body", request, who, got.status, got.body, c.status)
				}
			} else {
				wantError(t, request+" by "+who, got, c.status, c.code)
			}
			got.header.Del("Date")
			other.header.Del("Date")
			if got.status != other.status || got.body != other.body || fmt.Sprint(got.header) != fmt.Sprint(other.header) {
				t.Errorf("%s by %s: %d %s %v; where there is nothing %d %s %v: want no difference", request, who,
					got.status, got.body, got.header, other.status, other.body, other.header)
			}
		}
	}
	if a := send(t, server, "localhost", "GET", "/v2/"+hostedPrefix+"/team/app/tags/list", nil, "Authorization", basicOf("alice")); !strings.Contains(a.body, `["1"]`) {
		t.Errorf("after all refusals: %d %s; want the tag untouched", a.status, a.body)
	}
}

func TestAMountNeedsTheRightToReadWhereItComesFrom(t *testing.T) {
	cfg := hostedConfig()
	cfg.Access = access.NewPolicy(access.Parts{
		Prefix: hostedPrefix, Users: usersOf(t, "alice", "bob"),
		Rights: access.Rights{rule(t, "team/*", "alice", allActions)},
	}, quiet())
	server := serveFarm(t, cfg, newFarm(t, nil))
	private, _ := pushAs(t, server, basicOf("alice"), "team/app", "1")
	public, _ := pushAs(t, server, basicOf("alice"), "open/app", "1")
	mount := func(user string, d oci.Digest, from string) int {
		return send(t, server, "localhost", "POST", "/v2/"+hostedPrefix+"/bobs/copy/blobs/uploads/?mount="+d.String()+from, nil,
			"Authorization", basicOf(user)).status
	}
	for _, from := range []string{"&from=" + hostedPrefix + "/team/app", "&from=" + hostedPrefix + "/team/none", "&from=docker.io/library/app", ""} {
		if status := mount("bob", private, from); status != http.StatusAccepted {
			t.Errorf("mount %q of what may not be read: %d; want 202, send it yourself", from, status)
		}
	}
	if a := send(t, server, "localhost", "HEAD", "/v2/"+hostedPrefix+"/bobs/copy/blobs/"+private.String(), nil, "Authorization", basicOf("bob")); a.status != http.StatusNotFound {
		t.Errorf("after mounts that were refused: %d; want 404", a.status)
	}
	if status := mount("bob", public, "&from="+hostedPrefix+"/open/app"); status != http.StatusCreated {
		t.Errorf("mount of what may be read: %d; want 201", status)
	}
	if status := mount("alice", private, ""); status != http.StatusCreated {
		t.Errorf("mount without from by who may read everything: %d; want 201", status)
	}
}

func TestTheCatalogListsWhatMayBeReadPageByPage(t *testing.T) {
	server := serveFarm(t, withUsers(t), newFarm(t, nil))
	var open, allOf []string
	for i := range 7 {
		for _, path := range []string{fmt.Sprintf("open%d/app", i), fmt.Sprintf("team/app%d", i), fmt.Sprintf("zoo%d", i)} {
			pushAs(t, server, basicOf("alice"), path, "1")
			name := hostedPrefix + "/" + path
			if allOf = append(allOf, name); !strings.HasPrefix(path, "team/") {
				open = append(open, name)
			}
		}
	}
	slices.Sort(open)
	slices.Sort(allOf)
	list := func(n int, header ...string) (names []string, answers int) {
		for path := fmt.Sprintf("/v2/_catalog?n=%d", n); path != ""; answers++ {
			a := send(t, server, "localhost", "GET", path, nil, header...)
			if a.status != http.StatusOK {
				t.Fatalf("GET %s: %d %s", path, a.status, a.body)
			}
			_, inside, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(a.body), "]}"), "[")
			for one := range strings.SplitSeq(inside, ",") {
				if one != "" {
					names = append(names, strings.Trim(one, `"`))
				}
			}
			link := a.header.Get("Link")
			path, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), ">")
			if strings.Contains(link, "team") && len(header) == 0 {
				t.Errorf("Link %s tells of a repository that may not be seen", link)
			}
		}
		return names, answers
	}
	for _, n := range []int{1, 3, 7, 14, 100} {
		names, answers := list(n)
		if want := max(1, (len(open)+n-1)/n); !slices.Equal(names, open) || answers != want {
			t.Errorf("n=%d by nobody: %d pages, %v; want %d of %v", n, answers, names, want, open)
		}
		if names, _ := list(n, "Authorization", basicOf("bob")); !slices.Equal(names, allOf) {
			t.Errorf("n=%d by a user: %v; want %v", n, names, allOf)
		}
	}
	wantError(t, "_catalog by wrong credentials", send(t, server, "localhost", "GET", "/v2/_catalog", nil, "Authorization", basicOf("mallory")),
		http.StatusUnauthorized, "UNAUTHORIZED")
}

// By its own name the farm asks for a password, and takes no wrong one; clients log in there.
func TestAtItsOwnNameTheFarmAsksWhoItIs(t *testing.T) {
	server := serveFarm(t, withUsers(t), newFarm(t, nil))
	for _, host := range []string{"farm.internal", "FARM.internal:5000"} {
		for _, method := range []string{"GET", "HEAD"} {
			a := send(t, server, host, method, "/v2/", nil)
			if got := a.header.Get("WWW-Authenticate"); a.status != http.StatusUnauthorized || got != `Basic realm="farm.internal"` {
				t.Errorf("%s /v2/ at %s: %d, challenge %q; want 401 and Basic", method, host, a.status, got)
			}
		}
		if a := send(t, server, host, "GET", "/v2/", nil, "Authorization", basicOf("alice")); a.status != http.StatusOK {
			t.Errorf("/v2/ at %s by a user: %d; want 200", host, a.status)
		}
		wantError(t, "/v2/ by who is no user", send(t, server, host, "GET", "/v2/", nil, "Authorization", basicOf("mallory")), http.StatusUnauthorized, "UNAUTHORIZED")
		wantError(t, "/v2/ by another scheme", send(t, server, host, "GET", "/v2/", nil, "Authorization", "Digest x"), http.StatusUnauthorized, "UNAUTHORIZED")
		if a := send(t, server, host, "GET", "/v2/", nil, "Authorization", "Digest x"); a.header.Get("WWW-Authenticate") == "" {
			t.Error("/v2/ by another scheme: no challenge")
		}
	}
	open := serveFarm(t, hostedConfig(), newFarm(t, nil))
	if a := send(t, open, "farm.internal", "GET", "/v2/", nil); a.status != http.StatusOK {
		t.Errorf("/v2/ of a farm without users: %d; want 200", a.status)
	}
}

func TestTheBaseChallengeIsForWhoBringsNothingToTheMirror(t *testing.T) {
	const challenge = `Bearer realm="https://auth.docker.io/token",service="registry.docker.io"`
	said := challenge
	cfg := withUsers(t)
	cfg.BaseChallenge = func() string { return said }
	server := serveFarm(t, cfg, newFarm(t, nil))
	for _, method := range []string{"GET", "HEAD"} {
		a := send(t, server, "localhost:5000", method, "/v2/", nil)
		if a.status != http.StatusUnauthorized || a.header.Get("WWW-Authenticate") != challenge {
			t.Errorf("%s /v2/: %d, %q; want 401 and the upstream's challenge", method, a.status, a.header.Get("WWW-Authenticate"))
		}
		if a := send(t, server, "localhost:5000", method, "/v2/", nil, "Authorization", "Bearer whatever"); a.status != http.StatusOK {
			t.Errorf("%s /v2/ with a token: %d; want 200", method, a.status)
		}
	}
	if a := send(t, server, "farm.internal", "GET", "/v2/", nil); !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic") {
		t.Errorf("/v2/ by the farm's own name: %q; want its own challenge", a.header.Get("WWW-Authenticate"))
	}
	for _, said = range []string{`Basic realm="x"`, "basic", `Bearer realm="a", Basic realm="x"`} {
		if a := send(t, server, "localhost:5000", "GET", "/v2/", nil); a.header.Get("WWW-Authenticate") != "" {
			t.Errorf("an upstream's challenge %q is passed on", said)
		}
	}
	if said = ""; send(t, server, "localhost:5000", "GET", "/v2/", nil).status != http.StatusOK {
		t.Error("without a challenge /v2/ is not 200")
	}
}

// dockerd answers a Basic challenge of a mirror with the user's password for Docker Hub, whatever the path was.
func TestNoHostButTheFarmsOwnNameAsksForAPassword(t *testing.T) {
	cfg := withUsers(t)
	cfg.Hosts = []string{"registry.example"}
	cfg.BaseChallenge = func() string { return `Basic realm="x"` }
	f := newFarm(t, nil)
	f.fault = func(context.Context) error { return &access.UnauthorizedError{Challenge: `Basic realm="hub"`} }
	server := serveFarm(t, cfg, f)
	digest := oci.FromBytes(oci.SHA256, nil).String()
	hosts := []string{"localhost", "localhost:5000", "127.0.0.1", "[::1]:5000", "registry.example", server.Listener.Addr().String(), "farm.internal.", "farm.internal", "farm.internal.example", "x.farm.internal"}
	asked := 0
	for _, host := range hosts {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			for _, repo := range []string{"library/app", "app", "docker.io/library/app", "quay.io/a/b", hostedPrefix + "/team/app", hostedPrefix + "/app"} {
				for _, rest := range []string{"/manifests/1", "/manifests/" + digest, "/blobs/" + digest, "/tags/list", "/referrers/" + digest, "/blobs/uploads/", "/blobs/uploads/x", ""} {
					for _, authorization := range []string{"", "Digest x", "Basic", "Bearer x"} {
						path := "/v2/" + repo + rest
						if rest == "" {
							path = map[string]string{"library/app": "/v2/", "app": "/v2", "quay.io/a/b": "/v2/_catalog"}[repo]
							if path == "" {
								continue
							}
						}
						header := []string{}
						if authorization != "" {
							header = append(header, "Authorization", authorization)
						}
						a := send(t, server, host, method, path, nil, header...)
						own := strings.TrimSuffix(host, ".") == hostedPrefix
						if challenge := strings.ToLower(fmt.Sprint(a.header["Www-Authenticate"])); strings.Contains(challenge, "basic") {
							if asked++; !own {
								t.Fatalf("%s %s at %s: %d with challenge %s", method, path, host, a.status, challenge)
							}
						}
					}
				}
			}
		}
	}
	if asked == 0 {
		t.Error("nobody was asked for a password anywhere")
	}
}

func TestAuthorizationIsReadStrictly(t *testing.T) {
	registry := newMemory()
	img := registry.addImage("docker.io", "library/app", "1")
	server := serve(t, testConfig(), registry)
	path := "/v2/library/app/manifests/" + img.index.Digest.String()
	for _, header := range [][]string{
		{"Authorization", "Basic"},
		{"Authorization", "Basic !"},
		{"Authorization", "Bearer a b"},
		{"Authorization", "Bearer " + strings.Repeat("a", access.MaxCredential)},
		{"Authorization", "Bearer a", "Authorization", "Bearer a"},
		{"Authorization", ""},
	} {
		wantError(t, fmt.Sprintf("Authorization %.40q", header), ask(t, server, "GET", path, header...), http.StatusBadRequest, "UNAUTHORIZED")
	}
	wantError(t, "another scheme", ask(t, server, "GET", path, "Authorization", "Negotiate abc"), http.StatusUnauthorized, "UNAUTHORIZED")
	if a := ask(t, server, "GET", path, "Authorization", "bearer "+strings.Repeat("a", 8<<10)); a.status != http.StatusOK {
		t.Errorf("a long token: %d; want 200", a.status)
	}
}

// callers is a Registry that notes who asks.
type callers struct {
	*memory
	mu  sync.Mutex
	got []access.Caller
	err error
}

func (c *callers) Manifest(ctx context.Context, repo oci.Repository, ref oci.Reference, accept []string, headOnly bool) (registryapi.Manifest, error) {
	c.mu.Lock()
	c.got = append(c.got, access.CallerOf(ctx))
	c.mu.Unlock()
	if c.err != nil {
		return registryapi.Manifest{}, c.err
	}
	return c.memory.Manifest(ctx, repo, ref, accept, headOnly)
}

func TestTheRegistryLearnsWhoAsks(t *testing.T) {
	registry := &callers{memory: newMemory()}
	registry.addImage("docker.io", "library/app", "1")
	server := serve(t, testConfig(), registry)
	ask(t, server, "GET", "/v2/library/app/manifests/1", "Authorization", "basic  dXNlcjpwYXNz")
	ask(t, server, "GET", "/v2/library/app/manifests/1")
	if len(registry.got) != 2 {
		t.Fatalf("asked %d times; want 2", len(registry.got))
	}
	for i, want := range []access.Credential{"Basic dXNlcjpwYXNz", ""} {
		got := registry.got[i]
		if string(got.Authorization) != string(want) || !got.Local || got.OwnName || !got.Address.IsLoopback() {
			t.Errorf("request %d is by %+v; want credential %q over loopback", i, got, string(want))
		}
	}
}

// Who comes from elsewhere, or whose other end is not known, is not local.
func TestLocalIsWhoseBothEndsAreOnLoopback(t *testing.T) {
	registry := &callers{memory: newMemory()}
	registry.addImage("docker.io", "library/app", "1")
	door := newDoor(t, testConfig(), registry, nil)
	for _, c := range []struct {
		local  any
		remote string
		want   bool
	}{
		{tcp(t, "127.0.0.1:5000"), "127.0.0.1:40000", true},
		{tcp(t, "[::1]:5000"), "[::1]:40000", true},
		{tcp(t, "127.0.0.1:5000"), "10.0.0.5:40000", false}, // forwarded by the kernel
		{tcp(t, "10.0.0.1:5000"), "10.0.0.1:40000", false},
		{nil, "127.0.0.1:40000", false},
		{tcp(t, "127.0.0.1:5000"), "", false},
	} {
		r := httptest.NewRequestWithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, c.local), "GET", "http://localhost/v2/library/app/manifests/1", nil)
		r.RemoteAddr = c.remote
		door.ServeHTTP(httptest.NewRecorder(), r)
		if got := registry.got[len(registry.got)-1].Local; got != c.want {
			t.Errorf("from %s to %v: local %v; want %v", c.remote, c.local, got, c.want)
		}
	}
}

func TestWhatTheUpstreamAsksForIsPassedOn(t *testing.T) {
	const challenge = `Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/app:pull"`
	registry := &callers{memory: newMemory()}
	server := serve(t, testConfig(), registry)
	for _, c := range []struct {
		err       error
		status    int
		code      string
		challenge string
	}{
		{&access.UnauthorizedError{Challenge: challenge}, http.StatusUnauthorized, "UNAUTHORIZED", challenge},
		{fmt.Errorf("asking: %w", &access.UnauthorizedError{Challenge: `Basic realm="x"`}), http.StatusUnauthorized, "UNAUTHORIZED", ""},
		{&access.UnauthorizedError{}, http.StatusUnauthorized, "UNAUTHORIZED", ""},
		{errors.Join(oci.ErrDenied), http.StatusForbidden, "DENIED", ""},
		{&access.DeniedError{Message: "no"}, http.StatusForbidden, "DENIED", ""},
	} {
		registry.err = c.err
		got := ask(t, server, "GET", "/v2/library/app/manifests/1")
		wantError(t, c.err.Error(), got, c.status, c.code)
		if got.header.Get("WWW-Authenticate") != c.challenge {
			t.Errorf("%v: challenge %q; want %q", c.err, got.header.Get("WWW-Authenticate"), c.challenge)
		}
		if head := ask(t, server, "HEAD", "/v2/library/app/manifests/1"); head.status != c.status || head.body != "" || head.header.Get("WWW-Authenticate") != c.challenge {
			t.Errorf("HEAD, %v: %d %q %q; want %d, no body, the challenge", c.err, head.status, head.body, head.header.Get("WWW-Authenticate"), c.status)
		}
	}
}

func TestTooManyLoginsAreToldToWait(t *testing.T) {
	registry := &callers{memory: newMemory(), err: &access.TooManyLoginsError{RetryAfter: 3e9}}
	server := serve(t, testConfig(), registry)
	got := ask(t, server, "GET", "/v2/library/app/manifests/1")
	wantError(t, "too many logins", got, http.StatusTooManyRequests, "TOOMANYREQUESTS")
	if got.header.Get("Retry-After") != "3" {
		t.Errorf("Retry-After %q; want 3", got.header.Get("Retry-After"))
	}
}

func FuzzAuthorization(f *testing.F) {
	registry := &callers{memory: newMemory()}
	registry.addImage("docker.io", "library/app", "1")
	door := newDoor(f, testConfig(), registry, nil)
	for _, text := range []string{"Basic dXNlcjpwYXNz", "bearer abc==", "Basic", "Digest x", "", "Bearer \x00"} {
		f.Add(text, "", false)
		f.Add(text, text, true)
	}
	f.Fuzz(func(t *testing.T, first, second string, both bool) {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost/v2/library/app/manifests/1", nil)
		if r.Header["Authorization"] = []string{first}; both {
			r.Header["Authorization"] = []string{first, second}
		}
		w := httptest.NewRecorder()
		before := len(registry.got)
		door.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			if len(registry.got) != before || w.Code != http.StatusBadRequest && w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") != "" {
				t.Errorf("Authorization %q: %d, %d calls, challenge %q", r.Header["Authorization"], w.Code, len(registry.got)-before, w.Header().Get("WWW-Authenticate"))
			}
			return
		}
		got := registry.got[len(registry.got)-1].Authorization
		again, err := access.ParseCredential(string(got))
		if both || err != nil || again != got || len(first) < len(got) {
			t.Errorf("Authorization %q became %q, and that %q, %v", first, string(got), string(again), err)
		}
	})
}
