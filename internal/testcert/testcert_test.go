package testcert

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"net"
	"testing"
	"time"
)

func TestCertificatesVerifyByTheirCAOnly(t *testing.T) {
	t.Parallel()
	ca, other := NewCA(t), NewCA(t)
	for name, o := range map[string]Options{"ecdsa": {Names: []string{"mx.test"}}, "rsa": {Names: []string{"mx.test"}, RSA: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pair := ca.Issue(t, o)
			if err := handshake(t, pair.ServerConfig(), ca.ClientConfig("mx.test")); err != nil {
				t.Errorf("with its own CA: %v", err)
			}
			if handshake(t, pair.ServerConfig(), other.ClientConfig("mx.test")) == nil {
				t.Error("another CA's client took the certificate")
			}
			if handshake(t, pair.ServerConfig(), ca.ClientConfig("other.test")) == nil {
				t.Error("the certificate was taken for another name")
			}
		})
	}
}

func TestFilesHoldThePair(t *testing.T) {
	t.Parallel()
	ca := NewCA(t)
	for _, useRSA := range []bool{false, true} {
		pair := ca.Issue(t, Options{RSA: useRSA})
		loaded, err := tls.LoadX509KeyPair(pair.WriteFiles(t, t.TempDir()))
		if err != nil {
			t.Fatal(err)
		}
		_, isRSA := loaded.PrivateKey.(*rsa.PrivateKey)
		_, isECDSA := loaded.PrivateKey.(*ecdsa.PrivateKey)
		if isRSA != useRSA || isECDSA == useRSA {
			t.Errorf("RSA %v: the key is a %T", useRSA, loaded.PrivateKey)
		}
		if !pair.TLS.Leaf.Equal(loaded.Leaf) {
			t.Error("the file holds another certificate")
		}
	}
}

func TestExpiredCertificateIsRefused(t *testing.T) {
	t.Parallel()
	ca := NewCA(t)
	pair := ca.Issue(t, Options{Names: []string{"mx.test"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	if handshake(t, pair.ServerConfig(), ca.ClientConfig("mx.test")) == nil {
		t.Error("an expired certificate was taken")
	}
}

// handshake is the client's result, over loopback: a pipe without a buffer locks
// up when one side refuses in the middle of the other's flight.
func handshake(t *testing.T, server, client *tls.Config) error {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		// Its failure is the client's too, which is looked at.
		_ = tls.Server(conn, server).Handshake()
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	err = tls.Client(conn, client).Handshake()
	conn.Close()
	<-done
	return err
}
