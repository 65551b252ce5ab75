package webhook

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
)

// D07: an address of the inner network is not connected to, by whatever name it
// was reached, unless it is allowed.
func TestOnlyPublicAddressesWhenAsked(t *testing.T) {
	t.Parallel()
	var reached atomic.Int32
	rc := newReceiver(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	port := rc.URL[strings.LastIndex(rc.URL, ":"):]
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "169.254.169.254", "0.0.0.0"} {
		a := newAdapter(t, Config{URL: "http://" + host + port + "/mail", PublicOnly: true})
		err := a.Deliver(context.Background(), message(plainEntry("A"), text))
		if err == nil || isRejected(err) || !strings.Contains(err.Error(), "no public address") {
			t.Errorf("%s: Deliver returned %v, want a retry that names the fault", host, err)
		}
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("the receiver was reached %d times", n)
	}
	if err := newAdapter(t, Config{URL: rc.URL}).Deliver(context.Background(), message(plainEntry("A"), text)); err != nil || reached.Load() != 1 {
		t.Errorf("not asked: %v, reached %d times", err, reached.Load())
	}
}

func TestWhichAddressesArePublic(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"1.1.1.1": true, "100.63.255.255": true, "100.128.0.0": true, "172.15.255.255": true, "172.32.0.0": true, "198.17.255.255": true,
		"198.20.0.0": true, "2606:4700:4700::1111": true, "::ffff:1.1.1.1": true, "2001:200::1": true,
		"0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "100.64.0.0": false, "100.127.255.255": false, "127.0.0.1": false,
		"127.255.255.255": false, "169.254.169.254": false, "172.16.0.0": false, "172.31.255.255": false, "192.0.2.1": false,
		"192.168.0.1": false, "198.18.0.0": false, "198.19.255.255": false, "224.0.0.1": false, "240.0.0.1": false,
		"255.255.255.255": false, "::": false, "::1": false, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::7f00:1": false,
		"64:ff9b::7f00:1": false, "2002:7f00:1::": false, "2001:0:1::": false, "2001:db8::1": false, "fc00::1": false, "fdff::1": false,
		"fe80::1": false, "fe80::1%eth0": false, "2606::1%eth0": false, "fec0::1": false, "ff02::1": false,
	} {
		if got := isPublic(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %t", address, got)
		}
	}
}
