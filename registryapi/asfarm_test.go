package registryapi_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/oci"
)

// Asked by its own name, the farm is a registry of its own: what is pushed to farm.internal as team/app is what clients
// that ask by the node's address call farm.internal/team/app.
func TestByItsOwnNameTheFarmIsARegistryOfItsOwn(t *testing.T) {
	p, _ := newPusher(t)
	ask := func(method, path, body string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, p.server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "Farm.Internal:80"
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = answer.Body.Close() })
		return answer
	}
	blob := "some bytes"
	d := oci.FromBytes(oci.SHA256, []byte(blob))
	started := ask("POST", "/v2/team/app/blobs/uploads/", "")
	location := started.Header.Get("Location")
	if started.StatusCode != http.StatusAccepted || !strings.HasPrefix(location, "/v2/team/app/blobs/uploads/") {
		t.Fatalf("POST by the farm's name = %d, Location %q; want 202 and a path without the farm's name", started.StatusCode, location)
	}
	if put := ask("PUT", location+"?digest="+d.String(), blob); put.StatusCode != http.StatusCreated {
		t.Fatalf("PUT by the farm's name = %d; want 201", put.StatusCode)
	}
	if a := p.do("GET", "/blobs/"+d.String(), nil); a.status != http.StatusOK || a.body != blob {
		t.Errorf("GET by the node's address = %d %q; want 200 %q", a.status, a.body, blob)
	}
	if mounted := ask("POST", "/v2/team/other/blobs/uploads/?mount="+d.String()+"&from=team/app", ""); mounted.StatusCode != http.StatusCreated {
		t.Errorf("mount by the farm's names = %d; want 201", mounted.StatusCode)
	}
	list := ask("GET", "/v2/_catalog", "")
	if text, _ := io.ReadAll(list.Body); strings.Contains(string(text), "farm.internal") || !strings.Contains(string(text), "team/app") {
		t.Errorf("_catalog by the farm's name = %s; want names without the farm's", text)
	}
}
