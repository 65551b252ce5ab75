package main

import sd "github.com/coreos/go-systemd/v22/daemon"

// notify tells the service manager how the daemon stands, where there is one
// that asks (NOTIFY_SOCKET).
func (d *daemon) notify(state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		d.log.Warn("the service manager cannot be told", "state", state, "error", err)
	}
}

// reloading tells that a reload begins; what is returned tells of its end.
func (d *daemon) reloading() (done func()) {
	d.notify(sd.SdNotifyReloading + "\n" + sd.SdNotifyMonotonicUsec())
	return func() { d.notify(sd.SdNotifyReady) }
}
