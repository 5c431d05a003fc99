package config_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pullonce/pullonce/config"
)

// TestTheDocumentIsUpToDate holds docs/configuration.md to the keys.
func TestTheDocumentIsUpToDate(t *testing.T) {
	compare(t, "../docs/configuration.md", document(t))
}

func document(t *testing.T) string {
	t.Helper()
	example, err := os.ReadFile("testdata/farm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	out := new(strings.Builder)
	fmt.Fprintf(out, intro, example)
	section := "?"
	for _, k := range config.Keys() {
		if next := sectionOf(k.Path); next != section {
			section = next
			fmt.Fprintf(out, "\n## %s\n\n| key | meaning | unit | default | flag | environment |\n| --- | --- | --- | --- | --- | --- |\n", titles[section])
		}
		flag := ""
		if k.Flag != "" {
			flag = "`--" + k.Flag + "`"
		}
		fmt.Fprintf(out, "| `%s` | %s | %s | %s | %s | `%s` |\n", k.Path, escape(k.Help), escape(k.Unit), escape(k.Default), flag, k.Env)
	}
	out.WriteString(outro)
	return out.String()
}

func escape(text string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;", ">", "&gt;").Replace(text)
}

func sectionOf(path string) string {
	section, _, ok := strings.Cut(path, ".")
	switch {
	case !ok && (section == "data_dir" || section == "farm" || section == "zone"):
		return "node"
	case !ok && section == "join":
		return "gossip"
	case !ok:
		return "fetch"
	}
	return section
}

var titles = map[string]string{
	"node": "The node", "registry": "Registry: for container engines", "peer": "Peers", "gossip": "Gossip",
	"admin": "Admin", "trust": "Trust", "ring": "Ring", "hosted": "Hosted: what is pushed to the farm", "cache": "Cache", "limits": "Limits", "fetch": "Fetching",
	"upstreams": "Upstreams", "log": "Log",
}

const intro = `# Configuration

` + "`p2pd`" + ` needs no configuration: without any it is a farm of one that mirrors Docker Hub on 127.0.0.1:5000.
What is said otherwise comes from three places. Flags go before the environment, the environment before
the file, the file before the defaults.

- **The file** is YAML: ` + "`--config FILE`" + `, else ` + "`P2PD_CONFIG`" + `, else ` + "`/etc/p2pd/p2pd.yaml`" + ` where that exists.
- **The environment**: every key is a variable. Its name is ` + "`P2PD_`" + ` and the key's path in upper case, with ` + "`_`" + ` for all
  but letters and digits: ` + "`registry.listen`" + ` is ` + "`P2PD_REGISTRY_LISTEN`" + `. The values of a list are separated by commas.
  ` + "`P2PD_UPSTREAMS`" + ` is a list of further upstreams. ` + "`P2PD_UPSTREAMS_GHCR_IO_TAG_TTL`" + ` is the ` + "`tag_ttl`" + ` of ` + "`ghcr.io`" + `: the
  upstream whose name gives ` + "`GHCR_IO`" + ` by that rule, or else a new one with dots in the places of ` + "`_`" + `. So an
  upstream with a dash or a port in its name must be in the file or in ` + "`P2PD_UPSTREAMS`" + `.
  (` + "`P2PD_SERVICE_…`" + ` and ` + "`P2PD_PORT…`" + `, which Kubernetes sets, are left alone.)
- **Flags**: the common keys have one.

Everything is checked before anything starts. An unknown key, a value that cannot be read, two listeners on
one address: all of it is reported at once, each with its file, line and key, and ` + "`p2pd`" + ` ends with exit code 2.

Sizes are plain numbers of bytes or such as 64MiB, 100GiB, 1.5GB. Durations are such as 500ms, 10s, 5m, 1h30m.

A configuration for a host of a farm:

` + "```yaml\n%s```\n"

const outro = `
## Notes

- ` + "`registry.listen`" + `: when nobody has set it and the host has no IPv6, the node listens on 127.0.0.1:5000 alone.
- ` + "`registry.tls`" + `: loopback addresses are never encrypted, so that engines need no certificate there. Name an address besides
  for others (` + "`listen: [\"127.0.0.1:5000\", \"10.0.0.5:5000\"]`" + `); with 0.0.0.0 the host's own engines need TLS as well.
- ` + "`registry.rights`" + `: what all rules of a repository allow counts together. Where no rule matches, all may read, and users may
  write and delete; so one rule makes a repository private. A token allows what its ` + "`access`" + ` claims say, besides what
  everybody may. [Hosted content](hosted.md) has an example.
- ` + "`peer.advertise`, `gossip.advertise`" + `: where the node listens on all addresses (0.0.0.0), others are told the
  host's address on the way to the first seed that is given as an address, else the first IPv4 address of an interface
  other than loopback.
- ` + "`trust.mode`" + `: with ` + "`auto`" + ` a node without ` + "`join`" + ` makes the farm's CA at its first start, and one with ` + "`join`" + ` needs a token
  once. So the farm's first node is started without ` + "`join`" + `; once it is a member it may have the others there, and should, since with a
  new disk it would else found a farm of its own. With ` + "`none`" + ` whoever reaches the addresses for peers and gossip can be one of the
  farm's nodes: that is for tests, and ` + "`p2pctl status`" + ` shows it in red. [Security](security.md) says more.
- ` + "`upstreams.<name>.credentials`" + ` is a list of rules. ` + "`match`" + ` is a repository, all below one (` + "`team/*`" + `), or ` + "`*`" + `, which
  it is when left out; the first rule that matches holds, and where none does ` + "`username`" + ` and ` + "`password_file`" + ` beside the
  list. Where the credentials come from is one of four:

  ` + "```yaml" + `
  upstreams:
    docker.io:
      credentials:
        - {match: team/*, username: robot, password_file: /etc/p2pd/robot}
        - {match: tools/app, docker_config: /etc/p2pd/config.json}   # its auths, credHelpers or credsStore
        - {match: data/*, helper: pass}                              # docker-credential-pass, 5 s
        - {match: "*", username: AWS, exec: [aws, ecr, get-login-password]}
  ` + "```" + `

  A program of ` + "`exec`" + ` has 10 s and prints ` + "`{\"username\":\"…\",\"password\":\"…\",\"expiry\":\"2026-01-02T15:04:05Z\"}`" + ` (` + "`expiry`" + ` may be
  left out; ` + "`token`" + ` may stand in place of the other two), or nothing but a token, which is the password of ` + "`username`" + `, or without
  one goes to the registry as a Bearer token. Credentials are asked for when they are needed, and used for five minutes
  at most; a changed file or SIGHUP has them read anew at once. In the environment the list is JSON:
  ` + "`P2PD_UPSTREAMS_GHCR_IO_CREDENTIALS='[{\"match\":\"team/*\",\"helper\":\"pass\"}]'`" + `.
- ` + "`upstreams.<name>.shared`" + `: what the farm fetched with its credentials is private: a client gets it only when the upstream
  lets that client read it. ` + "`shared`" + ` gives it to every client of every node.
- ` + "`mirror_auth`" + `: ` + "`bearer`" + ` answers 401 to ` + "`/v2/`" + ` with a challenge that names ` + "`auth_realm`" + ` of the default upstream, so that an engine logs
  in there with its user's credentials and what is private goes through the farm. While that token service is down such an
  engine gets nothing through the farm, not even what is public. [Security](security.md#engines-and-private-images) says which
  engines these are.
- ` + "`ring.partitions`, `farm`" + ` must be the same on all nodes of a farm.
- ` + "`hosted.prefix`, `hosted.copies`, `hosted.min_copies`" + ` should be, too: nodes that count copies differently undo each
  other's work; ` + "`p2pctl status`" + ` warns of it.
`
