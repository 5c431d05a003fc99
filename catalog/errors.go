package catalog

import (
	"errors"
	"fmt"
)

// The conditions of asking the catalog. Match them with errors.Is.
var (
	// ErrNoQuorum: no leader could be asked in time. It passes; what was asked may be asked again.
	ErrNoQuorum = errors.New("the catalog has no quorum")
	// ErrUncertain: the write was handed to the leader, and whether it was done cannot be told. It is an ErrNoQuorum
	// too.
	ErrUncertain = fmt.Errorf("%w: the write may have been done", ErrNoQuorum)
	// ErrRefused: this node's farm joined another one, and both have hosted content.
	ErrRefused = errors.New("refused: hosted content in another catalog: either empty this catalog's directory, or remove " +
		"the seeds that lead to the other farm; push what is to be kept again")
	// ErrSkipped: leases are not asked for now; fetch without one.
	ErrSkipped = errors.New("leases are skipped")
	// ErrQuorum: the catalog works, so it is not replaced.
	ErrQuorum = errors.New("the catalog has a quorum, so it is not replaced")
	// ErrNoReplica: this node keeps no replica to read from.
	ErrNoReplica = errors.New("no replica of the catalog is kept here")
	// ErrNoteInvalid: no release writes such a note beside a copy.
	ErrNoteInvalid = errors.New("invalid note")
	// errNoLeader: all that may be the leader were asked, and none was it.
	errNoLeader = fmt.Errorf("%w", ErrNoQuorum)
	// errNotLeader: the command was not appended; another node may be the leader.
	errNotLeader = errors.New("not the leader")
)
