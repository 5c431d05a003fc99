package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/pullonce/pullonce/access"
)

const rightsKey = "registry.rights"

// setRights reads rules from a variable: JSON, of which YAML is more.
func setRights(c *Config, texts []string) error {
	if len(texts) != 1 {
		return errors.New("want a list of rules")
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(texts[0]), &doc); err != nil || len(doc.Content) != 1 {
		return errors.New(`is no JSON: want a list of rules such as [{"match":"team/*","who":["alice"],"allow":["read","write"]}]`)
	}
	r := &rights{}
	r.read(doc.Content[0])
	var errs []error
	for _, w := range r.wrong {
		errs = append(errs, errors.New(strings.TrimPrefix(w.key+": "+w.text, ": ")))
	}
	if len(errs) == 0 {
		c.Registry.Rights = r.all
	}
	return errors.Join(errs...)
}

// rights applies the rules from the file.
func (l *loader) rights(at origin, n *yaml.Node) {
	r := &rights{}
	r.read(n)
	for _, w := range r.wrong {
		at.line = w.line
		l.problems.add(at, rightsKey+w.key, w.text)
		l.bad[rightsKey] = true
	}
	l.config.Registry.Rights = r.all
	l.said[rightsKey] = at
}

// rights is a list of rules as it is read.
type rights struct {
	all   access.Rights
	wrong []misplaced
}

func (r *rights) bad(n *yaml.Node, key string, err error) {
	r.wrong = append(r.wrong, misplaced{n.Line, key, err.Error()})
}

func (r *rights) read(n *yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		r.bad(n, "", errors.New("want a list of rules, such as - {match: team/*, who: [alice], allow: [read, write]}"))
		return
	}
	for i, item := range n.Content {
		r.rule(fmt.Sprintf("[%d]", i), item)
	}
}

func (r *rights) rule(place string, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		r.bad(n, place, errors.New("want keys and values, such as {match: team/*, who: [alice], allow: [read, write]}"))
		return
	}
	before := len(r.wrong)
	rule := access.Rule{}
	var seen []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if slices.Contains(seen, name.Value) {
			r.bad(name, place+"."+name.Value, errors.New("was said already"))
			continue
		}
		seen = append(seen, name.Value)
		if err := setRight(&rule, name.Value, value); err != nil {
			r.bad(value, place+"."+name.Value, err)
		}
	}
	// Who nobody is and what may be done by them is said by an empty list: a word that was forgotten must not mean that.
	for _, key := range []string{"match", "who", "allow"} {
		if len(r.wrong) == before && !slices.Contains(seen, key) {
			r.bad(n, place, fmt.Errorf("%s is missing", key))
		}
	}
	if len(r.wrong) == before {
		r.all = append(r.all, rule)
	}
}

func setRight(rule *access.Rule, key string, value *yaml.Node) error {
	texts, err := textsOf(value)
	if err != nil {
		return err
	}
	switch key {
	case "match":
		if value.Kind != yaml.ScalarNode {
			return errors.New("want one value, not a list")
		}
		rule.Match, err = access.ParsePattern(texts[0])
		return err
	case "who":
		if slices.Contains(texts, "") {
			return errors.New("has an empty name")
		}
		rule.Who = texts
		return nil
	case "allow":
		for _, text := range texts {
			action, err := access.ParseAction(text)
			if err != nil {
				return err
			}
			rule.Allow |= action
		}
		return nil
	}
	return errors.New("no such key: want match, who or allow")
}
