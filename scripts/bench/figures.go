package main

// figures are all that can be measured, in the order of the document.
func figures() []figure {
	return []figure{
		{
			name: "once", about: "how often a byte crosses the upstream link when 8 nodes pull at once",
			seconds: func(runs, _ int) int { return 10 + 40*runs }, measure: measureOnce,
		},
		{
			name: "manifests", about: "manifest requests that a pull limit counts when 8 nodes pull one tag at once",
			seconds: func(runs, _ int) int { return 6 * runs }, measure: measureManifestCount,
		},
		{
			name: "serve-disk", about: "a whole blob from a node's disk to clients, against http.ServeContent",
			seconds: func(_, pairs int) int { return 10 + 25*pairs }, measure: measureServeDisk,
		},
		{
			name: "cold", about: "a cold blob through one node, against distribution v3 as pull-through cache",
			seconds: func(_, pairs int) int { return 20 + 15*pairs }, measure: measureCold,
		},
		{
			name: "transfer", about: "a blob from one node to another, without clients",
			seconds: func(runs, _ int) int { return 10 * runs }, measure: measureTransfer,
		},
		{
			name: "transfer-tls", about: "a blob from one node to another over TLS, against HTTPS with http.ServeContent",
			seconds: func(_, pairs int) int { return 15 + 12*pairs }, measure: measureTransferTLS,
		},
		{
			name: "farm-4", about: "4 nodes take a blob that one other node holds, each serving it to a client",
			seconds: func(runs, _ int) int { return 18 * runs }, measure: measureFarm(4),
		},
		{
			name: "farm-8", about: "8 nodes take a blob that one other node holds, each serving it to a client",
			seconds: func(runs, _ int) int { return 30 * runs }, measure: measureFarm(8),
		},
		{
			name: "ttfb", about: "time to first byte that a node adds to that of the upstream",
			seconds: func(runs, _ int) int { return 10 + 5*runs }, measure: measureFirstByte,
		},
		{
			name: "manifest-load", about: "manifest GETs over 64 connections, against a static handler",
			seconds: func(_, pairs int) int { return 5 + 10*pairs }, measure: measureManifestLoad,
		},
		{
			name: "memory", about: "memory of a node that 8 clients pull cold blobs through",
			seconds: func(runs, _ int) int { return 40 + 30*runs }, measure: measureMemory,
		},
		{
			name: "memory-swarms", about: "memory of a node with 30 swarms",
			seconds: func(runs, _ int) int { return 10 + 12*runs }, measure: measureSwarms,
		},
		{
			name: "memory-stalled", about: "memory of a node with a client that has stopped reading",
			seconds: func(runs, _ int) int { return 12 * runs }, measure: measureStalled,
		},
		{
			name: "memory-disk", about: "memory of a node whose disk is slow",
			seconds: func(runs, _ int) int { return 15 * runs }, measure: measureSlowDisk,
		},
		{
			name: "idle", about: "an idle node in a farm of 50",
			seconds: func(runs, _ int) int { return 60 + 20*runs }, measure: measureIdle,
		},
		{
			name: "push", about: "pushing an image with a layer of 1 GiB to a farm of 3, against distribution v3",
			seconds: func(_, pairs int) int { return 20 + 25*pairs }, measure: measurePush,
		},
		{
			name: "catalog-put", about: "putting a tag, 3 voters, against one sync of the disk",
			seconds: func(runs, _ int) int { return 70 * runs }, measure: measureCatalogPut,
		},
		{
			name: "catalog-get", about: "linearizable tag GETs, 1,000 a second at 4 nodes",
			seconds: func(runs, _ int) int { return 30 * runs }, measure: measureCatalogGet,
		},
		{
			name: "catalog-size", about: "memory and restart of a voter with 100,000 tags",
			seconds: func(runs, _ int) int { return 200 * runs }, measure: measureCatalogSize,
		},
		{
			name: "sim", about: "simulated farms of 8, 512 and 4,096 hosts, against the bound",
			seconds: func(runs, _ int) int { return 20 + 90*runs }, measure: measureSim,
		},
		{
			name: "shaped-together", about: "8 hosts on shaped links pull at once, against the bound", shaped: true,
			seconds: func(runs, _ int) int { return 100 * runs }, measure: measureTogether,
		},
		{
			name: "shaped-rolling", about: "8 hosts on shaped links start 2 s apart, against the bound", shaped: true,
			seconds: func(runs, _ int) int { return 85 * runs }, measure: measureRolling,
		},
		{
			name: "shaped-trust", about: "8 hosts on shaped links pull at once, with trust and without, in turn", shaped: true,
			seconds: func(_, pairs int) int { return 60 * pairs }, measure: measureShapedTrust,
		},
		{
			name: "join", about: "a new node that joins with a token", shaped: true,
			seconds: func(int, int) int { return 30 }, measure: measureJoin,
		},
		{
			name: "owner-kill", about: "the owner's process is killed half-way", shaped: true,
			seconds: faultSeconds, measure: measureFault(ownerKilled),
		},
		{
			name: "owner-cut", about: "the owner is cut off half-way without a word", shaped: true,
			seconds: faultSeconds, measure: measureFault(ownerCut),
		},
		{
			name: "peer-kill", about: "a serving peer's process is killed half-way", shaped: true,
			seconds: faultSeconds, measure: measureFault(peerKilled),
		},
		{
			name: "peer-cut", about: "a serving peer is cut off half-way without a word", shaped: true,
			seconds: faultSeconds, measure: measureFault(peerCut),
		},
		{
			name: "peer-lie", about: "a peer serves wrong bytes from half-way on", shaped: true,
			seconds: faultSeconds, measure: measureFault(peerLies),
		},
	}
}

func faultSeconds(runs, _ int) int { return 75 * runs }
