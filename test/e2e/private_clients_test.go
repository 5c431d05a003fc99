package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/pullonce/pullonce/internal/netfarm"
)

// What clients do with a login of their user's, read off the wire here; the sources of containerd, containers/image and
// go-containerregistry say the same. The realm is that of the challenge, the stand-in's token service; N is 127.0.0.1:5000.
//
// ctr --user (containerd 1.6)   no /v2/. HEAD manifests/TAG?ns= without credentials -> 401 -> token, POST with the password and
//     the scope of the image's own name -> the same again with the token; then GET manifests/DIGEST without it -> 401 -> with it;
//     blobs with it. The login is for every host that it meets, mirror or not. A token that is refused is sent again five
//     times, then it goes on to the next host. Each ctr begins anew.
// podman 4.3, skopeo 1.9 --authfile   GET /v2/, and only a challenge in that answer counts. After 200 nothing carries credentials:
//     401 -> the next location, docker.io, where the login for docker.io is used. After 401 token, GET with the password as
//     Basic and the scope of the name at the mirror -> GET manifests/TAG and blobs with it. The login is the one for N: to
//     them a mirror is a registry of its own, so a user must have logged in at both, and with only the login for docker.io
//     the token is nobody's, and the image comes from docker.io. `podman login N` succeeds with any password after 200, and is
//     checked by the token service after 401. podman tries all of that four times, over 3 s.
// skopeo --src-creds   is for the registry of the image's name alone, never for a mirror.
// crane 0.22   GET /v2/. After 200 each request carries the password itself, as Basic, over loopback; after 401 a token, GET with
//     the password as Basic, is on each. The login is the one for N in config.json.
// oras-go 2.6   no /v2/. A request without credentials -> 401 -> token, GET with the password as Basic and the challenge's scope ->
//     the same again with it. The login is the one for N.
//
// So with mirror_auth off what is private comes through the farm for ctr, crane and oras, and for podman and skopeo, as for
// dockerd, from Docker Hub itself; with mirror_auth bearer it comes through the farm for all.

// A privateClient pulls in the name of a user.
type privateClient struct {
	name string // the last element of its image's name, too
	// pull pulls an image of Docker Hub's and returns the digest that the client knows it by.
	pull func(ctx context.Context, who netfarm.Login, image string) (string, error)
	// byFarm says that what is private comes through the farm; else the node is passed over, and Docker Hub gives it.
	byFarm bool
	// password says that the node is sent the user's password.
	password bool
}

// privateClients are the clients of a host. What they do depends on whether the node asks for a login on /v2/.
func (f *privateFarm) privateClients(t *testing.T, h *netfarm.Host, bearer bool) []privateClient {
	t.Helper()
	daemon, err := h.StartContainerd(f.ctx)
	if err != nil {
		t.Fatal(err)
	}
	podman, err := h.NewPodman(mirrors)
	if err != nil {
		t.Fatal(err)
	}
	return []privateClient{
		{name: "ctr", byFarm: true, pull: func(ctx context.Context, who netfarm.Login, image string) (string, error) {
			return ctrPull(ctx, daemon, who, image)
		}},
		{name: "podman", byFarm: bearer, pull: func(ctx context.Context, who netfarm.Login, image string) (string, error) {
			return podmanPull(ctx, h, podman, who, image, "127.0.0.1:5000", "docker.io")
		}},
		{name: "podman-hub-login", pull: func(ctx context.Context, who netfarm.Login, image string) (string, error) {
			return podmanPull(ctx, h, podman, who, image, "docker.io")
		}},
		{name: "skopeo", byFarm: bearer, pull: func(ctx context.Context, who netfarm.Login, image string) (string, error) {
			logins, err := loginFlags(h, who, "127.0.0.1:5000", "docker.io")
			if err != nil {
				return "", err
			}
			return skopeoCopy(ctx, h, podman, image, logins...)
		}},
		{name: "skopeo-src-creds", pull: func(ctx context.Context, who netfarm.Login, image string) (string, error) {
			if who == nobody {
				return skopeoCopy(ctx, h, podman, image)
			}
			return skopeoCopy(ctx, h, podman, image, "--src-creds", who.User+":"+who.Password)
		}},
		{name: "crane", byFarm: true, password: !bearer, pull: func(ctx context.Context, who netfarm.Login, image string) (string, error) {
			return f.cranePull(ctx, h, who, image)
		}},
		{name: "oras", byFarm: true, pull: func(ctx context.Context, who netfarm.Login, image string) (string, error) {
			return f.orasCopy(ctx, h, who, image)
		}},
	}
}

// ctrPull pulls in a namespace of the user's.
func ctrPull(ctx context.Context, daemon *netfarm.Containerd, who netfarm.Login, image string) (string, error) {
	hosts := map[string]string{"docker.io": hubToml}
	if who == nobody {
		if err := daemon.Pull(ctx, "nobody", hosts, image); err != nil {
			return "", err
		}
		return daemon.Digest(ctx, "nobody", image)
	}
	if err := daemon.PullAs(ctx, who.User, hosts, who, image); err != nil {
		return "", err
	}
	return daemon.Digest(ctx, who.User, image)
}

// loginFlags are podman's and skopeo's for a user who has logged in at those registries.
func loginFlags(h *netfarm.Host, who netfarm.Login, registries ...string) ([]string, error) {
	if who == nobody {
		return nil, nil
	}
	logins := map[string]netfarm.Login{}
	for _, registry := range registries {
		logins[registry] = who
	}
	file, err := h.LoginFile(strings.ReplaceAll(strings.Join(append(registries, who.User), "-"), ":", "-"), logins)
	return []string{"--authfile", file}, err
}

func podmanPull(ctx context.Context, h *netfarm.Host, podman *netfarm.Podman, who netfarm.Login, image string, registries ...string) (string, error) {
	logins, err := loginFlags(h, who, registries...)
	if err != nil {
		return "", err
	}
	if _, err := podman.CLI(ctx, append(append([]string{"pull"}, logins...), image)...); err != nil {
		return "", err
	}
	return podman.ImageID(ctx, image)
}

func skopeoCopy(ctx context.Context, h *netfarm.Host, podman *netfarm.Podman, image string, flags ...string) (string, error) {
	to, err := os.MkdirTemp(h.Dir(), "skopeo")
	if err != nil {
		return "", err
	}
	args := append([]string{"skopeo", "--registries-conf", podman.RegistriesFile(), "copy"}, flags...)
	if _, err := h.Run(ctx, netfarm.Spec{Args: append(args, "docker://"+image, "dir:"+to)}); err != nil {
		return "", err
	}
	return h.Run(ctx, netfarm.Spec{Args: []string{"skopeo", "manifest-digest", filepath.Join(to, "manifest.json")}})
}

// atNodeByPort is an image of Docker Hub's as clients that know no mirrors name it.
func atNodeByPort(image string) string {
	return "127.0.0.1:5000/" + strings.TrimPrefix(image, "docker.io/")
}

func (f *privateFarm) cranePull(ctx context.Context, h *netfarm.Host, who netfarm.Login, image string) (string, error) {
	var env []string
	if who != nobody {
		file, err := h.LoginFile("crane-"+who.User, map[string]netfarm.Login{"127.0.0.1:5000": who})
		if err != nil {
			return "", err
		}
		env = []string{"DOCKER_CONFIG=" + filepath.Dir(file)}
	}
	crane := func(args ...string) (string, error) {
		return h.Run(ctx, netfarm.Spec{Args: append([]string{f.programs.crane}, args...), Env: env})
	}
	if _, err := crane("pull", atNodeByPort(image), filepath.Join(h.Dir(), "crane.tar")); err != nil {
		return "", err
	}
	return crane("digest", atNodeByPort(image))
}

// orasCopy is what the oras command does, by the library that it is made of, in this process.
func (f *privateFarm) orasCopy(ctx context.Context, h *netfarm.Host, who netfarm.Login, image string) (string, error) {
	ca, err := os.ReadFile(f.farm.CAFile())
	if err != nil {
		return "", err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			name, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			if addr, ok := f.names[name]; ok {
				address = net.JoinHostPort(addr.String(), port)
			}
			return h.Dial(ctx, network, address)
		},
	}
	name, tag, _ := strings.Cut(strings.TrimPrefix(image, "docker.io/"), ":")
	repo, err := remote.NewRepository("127.0.0.1:5000/" + name)
	if err != nil {
		return "", err
	}
	repo.PlainHTTP = true
	client := &auth.Client{Client: &http.Client{Transport: transport}, Cache: auth.NewCache()}
	if who != nobody {
		client.Credential = auth.StaticCredential("127.0.0.1:5000", auth.Credential{Username: who.User, Password: who.Password})
	}
	repo.Client = client
	d, err := oras.Copy(ctx, repo, tag, memory.New(), tag, oras.DefaultCopyOptions)
	return d.Digest.String(), err
}
