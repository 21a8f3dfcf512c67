// Command pause does nothing, for ever. It is PID 1 of each pod's sandbox and of each node: as it
// ignores SIGCHLD, the kernel reaps what is left to it.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signal.Ignore(syscall.SIGCHLD)
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	<-end
}
