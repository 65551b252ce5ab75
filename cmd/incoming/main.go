// Command incoming is the daemon and its tools: it receives mail by SMTP, keeps
// it in a spool that no power cut can empty, and hands it to an application.
// "incoming help" lists the commands, docs/operations.md is the manual.
//
// It is the only part of the module that reads a configuration file, a flag or
// the environment; it chooses the queue, the adapter, the policies and the
// telemetry, and composes them into an incoming.Server.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
