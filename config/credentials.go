package config

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/pullonce/pullonce/access"
)

// Credential says whose credentials the farm uses for some of an upstream's repositories. One of PasswordFile,
// DockerConfig, Helper and Exec is set.
type Credential struct {
	Match        access.Pattern
	Username     string // of PasswordFile; of Exec, where that says none
	PasswordFile string
	DockerConfig string   // path of a Docker config.json
	Helper       string   // NAME of docker-credential-NAME
	Exec         []string // program and arguments
}

const credentialsKey = "credentials"

var helperPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// setCredentials reads rules from a variable: JSON, of which YAML is more.
func setCredentials(u *Upstream, texts []string) error {
	if len(texts) != 1 {
		return errors.New("want a list of rules")
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(texts[0]), &doc); err != nil || len(doc.Content) != 1 {
		return errors.New(`is no JSON: want a list of rules such as [{"match":"team/*","username":"robot","password_file":"/etc/p2pd/robot"}]`)
	}
	r := &rules{}
	r.read(doc.Content[0])
	var errs []error
	for _, w := range r.wrong {
		if w.key != "" {
			w.text = w.key + ": " + w.text
		}
		errs = append(errs, errors.New(w.text))
	}
	if len(errs) == 0 {
		u.Credentials = r.all
	}
	return errors.Join(errs...)
}

// credentials applies the rules of an upstream from the file.
func (l *loader) credentials(at origin, path, upstream string, n *yaml.Node) {
	r := &rules{}
	r.read(n)
	for _, w := range r.wrong {
		at.line = w.line
		l.problems.add(at, path+w.key, w.text)
		l.bad[path] = true
	}
	u := l.config.Upstreams[upstream]
	u.Credentials = r.all
	l.config.Upstreams[upstream] = u
	l.said[path] = at
}

// rules is a list of Credentials as it is read.
type rules struct {
	all   []Credential
	wrong []misplaced
}

// misplaced is what is wrong in one place of the list, "[0].match".
type misplaced struct {
	line      int
	key, text string
}

func (r *rules) bad(n *yaml.Node, key, format string, args ...any) {
	r.wrong = append(r.wrong, misplaced{n.Line, key, fmt.Sprintf(format, args...)})
}

func (r *rules) read(n *yaml.Node) {
	switch {
	case isNull(n):
		r.bad(n, "", "has no value")
		return
	case n.Kind != yaml.SequenceNode:
		r.bad(n, "", "want a list of rules, such as - {match: team/*, username: robot, password_file: /etc/p2pd/robot}")
		return
	}
	for i, item := range n.Content {
		r.rule(fmt.Sprintf("[%d]", i), item)
	}
}

func (r *rules) rule(place string, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		r.bad(n, place, "want keys and values, such as {match: team/*, helper: ecr-login}")
		return
	}
	before := len(r.wrong)
	c := Credential{}
	c.Match, _ = access.ParsePattern("*")
	var seen []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if slices.Contains(seen, name.Value) {
			r.bad(name, place+"."+name.Value, "was said already")
			continue
		}
		seen = append(seen, name.Value)
		r.set(&c, place+"."+name.Value, name, value)
	}
	if len(r.wrong) > before {
		return // what follows would only confuse
	}
	r.check(c, place, n)
	r.all = append(r.all, c)
}

func (r *rules) set(c *Credential, key string, name, value *yaml.Node) {
	texts, err := textsOf(value)
	if err == nil && name.Value != "exec" && value.Kind != yaml.ScalarNode {
		err = errors.New("want one value, not a list")
	}
	if err != nil {
		r.bad(value, key, "%v", err)
		return
	}
	switch name.Value {
	case "match":
		c.Match, err = access.ParsePattern(texts[0])
	case "username":
		if c.Username = texts[0]; c.Username == "" || strings.ContainsFunc(c.Username, func(r rune) bool { return r == ':' || r < ' ' }) {
			err = errors.New("is no username: it is not empty and has no colon")
		}
	case "password_file":
		c.PasswordFile, err = readableFile(texts[0])
	case "docker_config":
		c.DockerConfig, err = readableFile(texts[0])
	case "helper":
		if c.Helper = texts[0]; !helperPattern.MatchString(c.Helper) {
			err = errors.New("is no helper: want the NAME of a program docker-credential-NAME in $PATH")
		}
	case "exec":
		if c.Exec = texts; len(texts) == 0 || texts[0] == "" {
			err = errors.New("want a program and its arguments, as a list")
		}
	default:
		err = errors.New("no such key: want match, username, password_file, docker_config, helper or exec")
		value = name
	}
	if err != nil {
		r.bad(value, key, "%v", err)
	}
}

// check holds the keys of one rule against each other.
func (r *rules) check(c Credential, place string, n *yaml.Node) {
	sources := 0
	for _, given := range []bool{c.PasswordFile != "", c.DockerConfig != "", c.Helper != "", c.Exec != nil} {
		if given {
			sources++
		}
	}
	switch {
	case sources != 1:
		r.bad(n, place, "want one of password_file, docker_config, helper and exec; there are %d", sources)
	case c.PasswordFile != "" && c.Username == "":
		r.bad(n, place, "a username is missing")
	case c.Username != "" && c.PasswordFile == "" && c.Exec == nil:
		r.bad(n, place+".username", "the source says itself whose credentials they are")
	}
}

// textsOf is a value, or a list of values.
func textsOf(n *yaml.Node) ([]string, error) {
	switch {
	case isNull(n):
		return nil, errors.New("has no value")
	case n.Kind == yaml.ScalarNode:
		return []string{n.Value}, nil
	case n.Kind != yaml.SequenceNode:
		return nil, errors.New("want a value, not keys below it")
	}
	var texts []string
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode || isNull(item) {
			return nil, errors.New("want a list of values")
		}
		texts = append(texts, item.Value)
	}
	return texts, nil
}

// readableFile takes the path of a file that can be read.
func readableFile(path string) (string, error) {
	if path == "" {
		return "", errors.New("is empty")
	}
	_, err := readable(path)
	return path, err
}

// setShared reads which repositories an upstream's rights do not hold for: true is all, false none.
func setShared(u *Upstream, texts []string) error {
	if len(texts) == 1 {
		switch strings.ToLower(texts[0]) {
		case "true", "yes", "on":
			texts = []string{"*"}
		case "false", "no", "off":
			texts = nil
		}
	}
	return setMany(&u.Shared, texts, access.ParsePattern)
}

// realmURL takes the address of a token service.
func realmURL(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return "", errors.New("is no token service: want a URL such as https://auth.example.com/token, without user") // it may hold a password
	}
	return u.String(), nil
}

// parseMirrorAuth takes what YAML 1.1 makes of off, too.
func parseMirrorAuth(text string) (string, error) {
	if text == "false" {
		text = "off"
	}
	return oneOf("off", "bearer")(text)
}
