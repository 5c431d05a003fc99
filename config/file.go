package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxFileBytes is more than any configuration needs.
const maxFileBytes = 1 << 20

// readFile reads a configuration file. A default file need not be there.
func readFile(path string, required bool) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) && !required {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(raw) > maxFileBytes {
		err = fmt.Errorf("larger than %s", formatBytes(maxFileBytes))
	}
	return raw, err
}

// file applies a configuration file.
func (l *loader) file(name string, raw []byte) {
	at := origin{kind: fromFile, name: name}
	dec, err := yaml.NewLoader(bytes.NewReader(raw))
	if err != nil {
		l.problems.add(at, "", err.Error())
		return
	}
	var doc, second yaml.Node
	err = dec.Load(&doc)
	if errors.Is(err, io.EOF) {
		return
	}
	if err == nil {
		if more := dec.Load(&second); more == nil {
			err = errors.New("several documents: want one")
		} else if !errors.Is(more, io.EOF) {
			err = more
		}
	}
	if err != nil {
		l.yamlError(at, err)
		return
	}
	root := &doc
	if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
		root = root.Content[0]
	}
	l.mapping(at, root, "", true)
}

// yamlError takes the line out of an error of the library.
func (l *loader) yamlError(at origin, err error) {
	text := err.Error()
	if bad, ok := errors.AsType[*yaml.LoadError](err); ok {
		at.line, text = bad.Mark.Line, bad.Message
	}
	l.problems.add(at, "", "no YAML: "+strings.ReplaceAll(text, "\n", " "))
}

// mapping walks a mapping of keys below prefix, which ends in a dot or is empty.
func (l *loader) mapping(at origin, n *yaml.Node, prefix string, root bool) {
	at.line = n.Line
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		what := strings.TrimSuffix(prefix, ".")
		if root {
			l.problems.add(at, "", "want keys and values")
		} else {
			l.problems.add(at, what, "want keys below it, such as "+l.example(what))
		}
		return
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		at.line = name.Line
		path := prefix + name.Value
		if name.Kind != yaml.ScalarNode {
			l.problems.add(at, strings.TrimSuffix(prefix, "."), "want a name as key")
			continue
		}
		if before, ok := seen[name.Value]; ok {
			l.problems.add(at, path, fmt.Sprintf("was said in line %d already", before))
			continue
		}
		seen[name.Value] = name.Line
		l.entry(at, path, prefix, name.Value, value)
	}
}

func (l *loader) entry(at origin, path, prefix, name string, value *yaml.Node) {
	if value.Kind == yaml.AliasNode {
		l.problems.add(at, path, "is an alias: write the value")
		return
	}
	switch {
	case prefix == "upstreams.":
		if l.addUpstream(at, name) {
			l.mapping(at, value, "upstreams."+name+".", false)
		}
	case strings.HasPrefix(prefix, "upstreams."):
		upstream := strings.TrimSuffix(strings.TrimPrefix(prefix, "upstreams."), ".")
		if name == credentialsKey {
			l.credentials(at, path, upstream, value)
			return
		}
		if k, ok := l.keys[perUpstream+name]; ok {
			if texts, ok := l.scalars(at, path, value); ok {
				l.apply(at, k, path, upstream, texts)
			}
			return
		}
		l.unknown(at, path)
	case l.isSection(path):
		l.mapping(at, value, path+".", false)
	case path == rightsKey:
		l.rights(at, value)
	default:
		k, ok := l.keys[path]
		if !ok {
			l.unknown(at, path)
			return
		}
		if texts, ok := l.scalars(at, path, value); ok {
			l.apply(at, k, path, "", texts)
		}
	}
}

// scalars reads a value or a list of values.
func (l *loader) scalars(at origin, path string, n *yaml.Node) ([]string, bool) {
	switch {
	case isNull(n):
		l.problems.add(at, path, "has no value")
		return nil, false
	case n.Kind == yaml.ScalarNode:
		return []string{n.Value}, true
	case n.Kind != yaml.SequenceNode:
		l.problems.add(at, path, "want a value, not keys below it")
		return nil, false
	}
	var texts []string
	for _, item := range n.Content {
		if item.Kind != yaml.ScalarNode || isNull(item) {
			at.line = item.Line
			l.problems.add(at, path, "want a list of values")
			return nil, false
		}
		texts = append(texts, item.Value)
	}
	// A list where one value is wanted must not pass for it.
	if k := l.keys[path]; len(texts) == 1 && k != nil && !k.list {
		l.problems.add(at, path, "want one value, not a list")
		return nil, false
	}
	return texts, true
}

func isNull(n *yaml.Node) bool {
	return n.Kind == 0 || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}
