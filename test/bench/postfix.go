package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// needsPostfix says why Postfix cannot be measured here.
func needsPostfix() string {
	if why := needs("postfix"); why != "" {
		return why
	}
	if os.Getuid() != 0 {
		return "a Postfix of its own needs root"
	}
	return ""
}

// mainCf is Debian's defaults with everything moved into one directory and all
// mail discarded once it has been through the queue.
func mainCf(dir, tls string) string {
	return strings.ReplaceAll(`compatibility_level = 3.6
queue_directory = DIR/queue
data_directory = DIR/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file_prefixes = DIR
maillog_file = DIR/mail.log
myhostname = bench.example.org
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
local_recipient_maps =
local_transport = discard:
relay_transport = discard:
default_transport = discard:
smtpd_relay_restrictions = permit_mynetworks, reject
`, "DIR", dir) + tls
}

// tlsCf is what it takes to offer STARTTLS.
func tlsCf(c certificate) string {
	return "smtpd_tls_security_level = may\nsmtpd_tls_cert_file = " + c.cert + "\nsmtpd_tls_key_file = " + c.key + "\n"
}

// masterCf is the services such an instance needs, none in a chroot.
func masterCf(port string) string {
	return "127.0.0.1:" + port + ` inet n - n - - smtpd
pickup   unix n - n 60 1 pickup
cleanup  unix n - n - 0 cleanup
qmgr     unix n - n 300 1 qmgr
tlsmgr   unix - - n 1000? 1 tlsmgr
rewrite  unix - - n - - trivial-rewrite
bounce   unix - - n - 0 bounce
defer    unix - - n - 0 bounce
trace    unix - - n - 0 bounce
verify   unix - - n - 1 verify
flush    unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq    unix n - n - - showq
error    unix - - n - - error
retry    unix - - n - - error
discard  unix - - n - - discard
anvil    unix - - n - 1 anvil
scache   unix - - n - 1 scache
postlog  unix-dgram n - n - 1 postlogd
`
}

// startPostfix runs an instance of its own: the system's Postfix, its
// configuration and its queue are not touched.
func (b *bench) startPostfix(ctx context.Context, dir string, secure bool) (*running, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	tls := ""
	if secure {
		tls = tlsCf(b.cert)
	}
	conf, err := writePostfix(dir, addr, tls)
	if err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, "postfix", "-c", conf, "start").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("postfix start: %w\n%s", err, out)
	}
	r := &running{
		addr:     addr,
		delivers: true,
		depth: func(context.Context) (depth, error) {
			q := filepath.Join(dir, "queue")
			n, err := entries(true, filepath.Join(q, "incoming"), filepath.Join(q, "active"),
				filepath.Join(q, "maildrop"), filepath.Join(q, "deferred"))
			return depth{queued: n, onDisk: n}, err
		},
		stop: func() error { return stopPostfix(dir) },
	}
	if err := banner(ctx, addr, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("postfix: %w\n%s", err, tail(filepath.Join(dir, "mail.log"))), r.stop())
	}
	return r, nil
}

func writePostfix(dir, addr, tls string) (conf string, err error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	conf = filepath.Join(dir, "conf")
	for _, d := range []string{conf, filepath.Join(dir, "queue"), filepath.Join(dir, "data")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", err
		}
	}
	if out, err := exec.Command("chown", "postfix", filepath.Join(dir, "data")).CombinedOutput(); err != nil {
		return "", fmt.Errorf("chown: %w: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(conf, "main.cf"), []byte(mainCf(dir, tls)), 0o644); err != nil {
		return "", err
	}
	return conf, os.WriteFile(filepath.Join(conf, "master.cf"), []byte(masterCf(port)), 0o644)
}

// stopPostfix does what "postfix abort" does, which takes seconds more: it has
// the master end itself and its children. It waits until the master is gone, so
// that its directory can be removed.
func stopPostfix(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "queue", "pid", "master.pid"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("master.pid: %w", err)
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("postfix (%d): %w", pid, err)
	}
	for range 1500 {
		// Whoever has to collect what it leaves may take its time.
		if state := field(fmt.Sprintf("/proc/%d/status", pid), "State"); state == "" || strings.HasPrefix(state, "Z") {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("postfix (%d) does not end", pid)
}
