//go:build !linux

package main

import "syscall"

// attributes puts a node into a process group of its own, so that a Ctrl-C at the terminal meets the demo alone, which
// then stops the nodes in order.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
