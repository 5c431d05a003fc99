package access

import (
	"fmt"
	"slices"
	"strings"
)

// An Action is what somebody wants to do with a repository.
type Action uint8

// The actions. Those of one rule are joined by |.
const (
	Read   Action = 1 << iota // pull: manifests, blobs, tags, referrers
	Write                     // push, mount and go on with uploads
	Delete                    // of tags, manifests and blobs
	List                      // see in the list of all repositories that there is this one

	everything = Read | Write | Delete | List
)

// ParseAction reads "read", "write" or "delete".
func ParseAction(text string) (Action, error) {
	switch text {
	case "read":
		return Read, nil
	case "write":
		return Write, nil
	case "delete":
		return Delete, nil
	}
	return 0, fmt.Errorf("%.40q: want read, write or delete", text)
}

// String is the action as it is written.
func (a Action) String() string {
	var words []string
	for _, w := range []struct {
		is   Action
		word string
	}{{Read, "read"}, {Write, "write"}, {Delete, "delete"}, {List, "list"}} {
		if a&w.is != 0 {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, ", ")
}

// Who may stand in a Rule besides the names of users.
const (
	WhoAll       = "*"         // all users
	WhoAnonymous = "anonymous" // everybody, also who is no user
)

// A Rule lets some do something with the repositories of a pattern.
type Rule struct {
	Match Pattern
	Who   []string
	Allow Action
}

// Rights say who may do what with the farm's own repositories. What a repository's rules allow counts together, and
// nothing else does: one that any rule matches is open to those alone that its rules name. All others may be read by
// everybody, written and deleted by all users.
type Rights []Rule

// of is what a user may do with the repository of that path; "" is who is no user.
func (r Rights) of(user, path string) Action {
	allowed, matched := Action(0), false
	for _, rule := range r {
		if rule.Match.Match(path) {
			matched = true
			allowed |= rule.of(user)
		}
	}
	if !matched {
		allowed = unruled(user)
	}
	return listed(allowed)
}

// everywhere is what a user may do with all repositories, whatever their path. It may be less than it could be.
func (r Rights) everywhere(user string) Action {
	all, each := Action(0), everything
	for _, rule := range r {
		allowed := rule.of(user)
		if rule.Match.all {
			all |= allowed
		}
		each &= allowed
	}
	if slices.ContainsFunc(r, func(rule Rule) bool { return rule.Match.all }) {
		return listed(all)
	}
	return listed(each & unruled(user))
}

// unruled is what a user may do where there is no rule.
func unruled(user string) Action {
	if user == "" {
		return Read
	}
	return Read | Write | Delete
}

// listed adds List to what can be read.
func listed(a Action) Action {
	if a&Read != 0 {
		return a | List
	}
	return a
}

// of is what r lets a user do.
func (r Rule) of(user string) Action {
	for _, who := range r.Who {
		if who == WhoAnonymous || user != "" && (who == WhoAll || who == user) {
			return r.Allow
		}
	}
	return 0
}
