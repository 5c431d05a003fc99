package main

import "syscall"

// attributes puts a node into a process group of its own, so that a Ctrl-C at the terminal meets the demo alone, which
// then stops the nodes in order; and has the kernel end it if the demo is killed. (That is when the thread that started
// the process ends.)
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
