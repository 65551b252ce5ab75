package resolver_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/incoming-mx/incoming/policy/resolver"
	"github.com/miekg/dns"
)

// zone is a DNS server on loopback that answers from a list of records.
type zone struct {
	addr    string
	asked   atomic.Int64
	records sync.Map // name and kind: []string
	rcode   atomic.Int64
	silent  atomic.Bool
	hold    chan struct{} // what is asked about slow.example waits for its end
	asking  chan struct{} // gets one when that is asked
}

func serve(t *testing.T, records ...string) *zone {
	t.Helper()
	z := &zone{hold: make(chan struct{}), asking: make(chan struct{}, 10)}
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprint(rr.Header().Name, rr.Header().Rrtype)
		old, _ := z.records.LoadOrStore(key, []dns.RR(nil))
		z.records.Store(key, append(old.([]dns.RR), rr))
	}
	pc, l := onePort(t)
	z.addr = l.Addr().String()
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: z}, {Listener: l, Handler: z}} {
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go s.ActivateAndServe() // ends with Shutdown
		<-up
		t.Cleanup(func() { s.Shutdown() })
	}
	return z
}

// onePort listens on a loopback port by UDP and by TCP. One that is free for the one
// may be in use for the other.
func onePort(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	var refused error
	for range 20 {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, l
		}
		refused = err
		if err := pc.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal(refused)
	return nil, nil
}

func (z *zone) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	z.asked.Add(1)
	if z.silent.Load() {
		return
	}
	r := new(dns.Msg).SetReply(m)
	q := m.Question[0]
	if q.Name == "slow.example." {
		z.asking <- struct{}{}
		<-z.hold
	}
	name := strings.ToLower(q.Name)
	for range 20 {
		if rrs, ok := z.records.Load(fmt.Sprint(name, q.Qtype)); ok {
			r.Answer = append(r.Answer, rrs.([]dns.RR)...)
			break
		}
		rrs, ok := z.records.Load(fmt.Sprint(name, dns.TypeCNAME))
		if !ok {
			break
		}
		cname := rrs.([]dns.RR)[0].(*dns.CNAME)
		r.Answer = append(r.Answer, cname)
		name = cname.Target
	}
	if r.Rcode = int(z.rcode.Load()); r.Rcode != 0 {
		r.Answer = nil
	}
	if len(r.Answer) == 0 {
		r.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60}, Ns: "a.", Mbox: "b.", Minttl: 60}}
	}
	if _, udp := w.LocalAddr().(*net.UDPAddr); udp {
		r.Truncate(1232)
	}
	w.WriteMsg(r) // a client that is gone is no fault
}

func cache(t *testing.T, o resolver.Options) *resolver.Cache {
	t.Helper()
	c, err := resolver.New(&o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEachKindIsLookedUp(t *testing.T) {
	t.Parallel()
	z := serve(t,
		`a.example. 60 TXT "v=1 " "two"`, `a.example. 60 TXT "other"`,
		"a.example. 60 MX 10 mx.example.",
		"a.example. 60 A 192.0.2.1", "a.example. 60 AAAA 2001:db8::1",
		"only4.example. 60 A 192.0.2.4",
		"alias.example. 60 CNAME mid.example.", "mid.example. 60 CNAME a.example.",
		"1.2.0.192.in-addr.arpa. 60 PTR a.example.",
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 60 PTR six.example.",
	)
	c := cache(t, resolver.Options{Servers: []string{z.addr}})
	ctx := t.Context()
	txt, err := c.LookupTXT(ctx, "A.example")
	slices.Sort(txt)
	if err != nil || !slices.Equal(txt, []string{"other", "v=1 two"}) {
		t.Errorf("TXT %q, %v", txt, err)
	}
	if mx, err := c.LookupMX(ctx, "a.example."); err != nil || len(mx) != 1 || mx[0].Host != "mx.example." || mx[0].Pref != 10 {
		t.Errorf("MX %v, %v", mx, err)
	}
	if ips, err := c.LookupIPAddr(ctx, "a.example"); err != nil || len(ips) != 2 {
		t.Errorf("addresses %v, %v", ips, err)
	}
	if ips, err := c.LookupIPAddr(ctx, "only4.example"); err != nil || len(ips) != 1 {
		t.Errorf("addresses of one kind %v, %v", ips, err)
	}
	if ips, err := c.LookupIP(ctx, "ip4", "alias.example"); err != nil || len(ips) != 1 || ips[0].String() != "192.0.2.1" {
		t.Errorf("by an alias %v, %v", ips, err)
	}
	for addr, want := range map[string]string{"192.0.2.1": "a.example.", "2001:db8::1": "six.example."} {
		if names, err := c.LookupAddr(ctx, addr); err != nil || !slices.Equal(names, []string{want}) {
			t.Errorf("names of %s: %v, %v", addr, names, err)
		}
	}
}

func isNotFound(err error) bool {
	var e *net.DNSError
	return errors.As(err, &e) && e.IsNotFound
}

func isTemporary(err error) bool {
	var e *net.DNSError
	return errors.As(err, &e) && e.Temporary() && !e.IsNotFound
}

func TestNothingIsAnAnswerAndTroubleIsNot(t *testing.T) {
	t.Parallel()
	z := serve(t, "a.example. 60 A 192.0.2.1", "loop.example. 60 CNAME loop.example.")
	c := cache(t, resolver.Options{Servers: []string{z.addr}})
	for _, name := range []string{"none.example", "", ".", strings.Repeat("x", 64) + ".example", "a..example"} {
		if _, err := c.LookupTXT(t.Context(), name); !isNotFound(err) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := c.LookupTXT(t.Context(), "a.example"); !isNotFound(err) {
		t.Errorf("no record of that kind: %v", err)
	}
	if _, err := c.LookupTXT(t.Context(), "loop.example"); err == nil || isNotFound(err) {
		t.Errorf("a loop: %v", err)
	}
	z.rcode.Store(dns.RcodeServerFailure)
	if _, err := c.LookupTXT(t.Context(), "b.example"); !isTemporary(err) || !strings.Contains(err.Error(), "servfail") {
		t.Errorf("servfail: %v", err)
	}
}

func TestAnAnswerIsRememberedForItsTTLAndOneQuestionAskedOnce(t *testing.T) {
	t.Parallel()
	z := serve(t, "a.example. 60 A 192.0.2.1", "slow.example. 60 A 192.0.2.1", "now.example. 0 A 192.0.2.1")
	c := cache(t, resolver.Options{Servers: []string{z.addr}, Timeout: 10 * time.Second})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := c.LookupIP(t.Context(), "ip4", "slow.example"); err != nil {
				t.Error(err)
			}
		})
	}
	<-z.asking
	close(z.hold)
	all.Wait()
	if n := z.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	for range 3 {
		if _, err := c.LookupTXT(t.Context(), "b.example"); !isNotFound(err) {
			t.Error(err)
		}
	}
	if n := z.asked.Load(); n != 2 {
		t.Errorf("asked %d times, the second for what is not there", n)
	}
	for range 3 {
		if _, err := c.LookupIP(t.Context(), "ip4", "now.example"); err != nil {
			t.Error(err)
		}
	}
	if n := z.asked.Load(); n != 5 {
		t.Errorf("asked %d times; what has no TTL is not remembered", n)
	}
}

func TestTheNextServerIsAskedAndALongAnswerByTCP(t *testing.T) {
	t.Parallel()
	var records []string
	for i := range 60 {
		records = append(records, fmt.Sprintf(`big.example. 60 TXT "%d %s"`, i, strings.Repeat("x", 200)))
	}
	silent, z := serve(t), serve(t, records...)
	silent.silent.Store(true)
	c := cache(t, resolver.Options{Servers: []string{silent.addr, z.addr}, Timeout: 50 * time.Millisecond})
	if txt, err := c.LookupTXT(t.Context(), "big.example"); err != nil || len(txt) != 60 {
		t.Errorf("%d records, %v", len(txt), err)
	}
}

func TestALookupEndsWithItsContext(t *testing.T) {
	t.Parallel()
	z := serve(t)
	z.silent.Store(true)
	c := cache(t, resolver.Options{Servers: []string{z.addr}, Timeout: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.LookupTXT(ctx, "a.example"); !isTemporary(err) {
		t.Errorf("%v", err)
	}
}

func TestAServerThatIsNoAddressIsNamed(t *testing.T) {
	t.Parallel()
	if _, err := resolver.New(&resolver.Options{Servers: []string{"dns.example"}}); err == nil || !strings.Contains(err.Error(), `"dns.example"`) {
		t.Error(err)
	}
	if _, err := resolver.New(&resolver.Options{Servers: []string{}}); err == nil {
		t.Error("no server will do")
	}
	for _, good := range []string{"192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]:53"} {
		if _, err := resolver.New(&resolver.Options{Servers: []string{good}}); err != nil {
			t.Error(err)
		}
	}
}
