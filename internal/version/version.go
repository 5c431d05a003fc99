// Package version says which release this program is and which version of the peer protocol it speaks.
//
// A release is built with
//
//	-ldflags "-X github.com/pullonce/pullonce/internal/version.release=v1.2.3"
//
// and any other build goes by what the Go toolchain recorded of the checkout. Its functions may be called by any
// goroutine.
package version

import "runtime/debug"

// Protocol is the version of the protocol between peers that this program speaks.
const Protocol = 1

// release is set by the linker alone.
var release string

// String is the release that this program is: what the linker was told, else the module version that the toolchain
// recorded (with +dirty for a changed checkout), else "devel".
func String() string {
	info, _ := debug.ReadBuildInfo()
	return choose(release, info)
}

func choose(release string, info *debug.BuildInfo) string {
	if release != "" {
		return release
	}
	if info == nil || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
}
