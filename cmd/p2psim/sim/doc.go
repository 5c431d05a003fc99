// Package sim runs a farm of simulated hosts that pull one blob at once, with the same
// piece scheduler that a node uses (package swarm), and measures how close they come to
// the fluid bound of peer-to-peer distribution.
//
// It is a discrete-event simulation. A host has an uplink and a downlink of one rate; a
// piece travels in quanta: the uplink serves its flows in turn, each with a window of quanta
// that are not acknowledged, and the downlink takes quanta in order of arrival. So links are
// shared about as TCP shares them, and a flow that is held back at one end leaves its share
// at the other to the rest. A message takes half a round trip and then a time on one of the
// receiving host's cores. The upstream is one more uplink.
//
// Lost messages are modelled after TCP: a single small message that is lost comes after the
// retransmission time-out (200 ms), or one and a half round trips after the next message on the
// same connection, whose acknowledgement shows the gap. What follows on that connection waits
// behind it. A lost packet inside of a piece costs one round trip, since hundreds follow it.
//
// A run is determined by its Config. It may not be shared by goroutines.
package sim
