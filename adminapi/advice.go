package adminapi

import (
	"fmt"
	"strings"
)

// silentVoters are the nodes of voters that do not answer; nil when all do.
func (s CatalogStatus) silentVoters() []string {
	var silent []string
	for _, v := range s.Voters {
		if !v.Alive {
			silent = append(silent, v.Node)
		}
	}
	return silent
}

const meanwhile = "Meanwhile pulls go on; pushes and hosted tags are answered with 503."

// advice says what a person can do about the state that the catalog is in: "" when that is nothing.
func (s CatalogStatus) advice() string {
	switch {
	case strings.HasPrefix(s.State, catalogWaitingForSeeds):
		return s.seedAdvice()
	case s.State == CatalogSeedListsDiffer:
		return "A farm's first catalog is founded by seeds that agree on who they are: give all of them the same list in " +
			"join and start them again. " + meanwhile
	case s.State == CatalogLost:
		return "Hosted content is here, and no member keeps the catalog that names it; none is founded, so that nothing is lost. If its " +
			"voters come back it goes on by itself. If they do not: start all nodes, then on one of them, over its socket, " +
			"p2pctl catalog restore FILE --force with a backup, or without one p2pctl catalog recover --force, which rebuilds the " +
			"tags from the copies. " + meanwhile
	case s.State == CatalogWaiting:
		return "This node founds no catalog, it joins one: it waits until it meets a node that knows one. See with " +
			"p2pctl members whether it reaches the seeds in its join. " + meanwhile
	case strings.HasPrefix(s.State, catalogRefused):
		return "This farm joined another one, both have hosted content, and two catalogs cannot become one. Either take " +
			"the other farm's nodes out of join and start this node again, or give up what this farm hosts: p2pctl " +
			"catalog leave on each of its nodes, then push again what is to be kept."
	case s.State == CatalogNoQuorum:
		return s.quorumAdvice()
	}
	if silent := s.silentVoters(); silent != nil {
		return s.voterAdvice(silent)
	}
	return ""
}

func (s CatalogStatus) seedAdvice() string {
	var held, total int
	if n, _ := fmt.Sscanf(strings.TrimPrefix(s.State, catalogWaitingForSeeds), "%d of %d", &held, &total); n != 2 {
		return meanwhile
	}
	missing := "the seeds that are missing"
	if len(s.MissingSeeds) > 0 {
		missing += " (" + strings.Join(s.MissingSeeds, ", ") + ")"
	}
	return fmt.Sprintf("A catalog is founded when %d of the %d seeds in join see each other: start p2pd on %s, or correct "+
		"join on all seeds. Only if they never come: p2pctl catalog bootstrap --force, on one node alone. %s",
		total/2+1, total, missing, meanwhile)
}

func (s CatalogStatus) quorumAdvice() string {
	silent := s.silentVoters()
	if len(s.Voters) == 0 || silent == nil {
		return "The voters are choosing a leader, or are not reached from here: if this lasts, see with p2pctl members " +
			"which are. " + meanwhile
	}
	are := "are"
	if len(s.Voters)-len(silent) == 1 {
		are = "is"
	}
	return fmt.Sprintf("%d of %d voters must be there, and %d %s: start p2pd on %s. Only if they never come back: p2pctl "+
		"catalog bootstrap --force on the voter that trails least keeps what that one has. %s",
		len(s.Voters)/2+1, len(s.Voters), len(s.Voters)-len(silent), are, strings.Join(silent, ", "), meanwhile)
}

func (s CatalogStatus) voterAdvice(silent []string) string {
	left := "no more voter may fail"
	if s.Tolerance > 0 {
		left = fmt.Sprintf("%d more may fail", s.Tolerance)
	}
	return fmt.Sprintf("%s: not reached. Reads and writes go on, %s. Within seconds another node takes its place, if there "+
		"is one; else start p2pd there.", strings.Join(silent, ", "), left)
}
