package outrigger

import (
	"context"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

func TestTheTransportSetsTheKeyOfTheContext(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("got", strings.Join(r.Header.Values(AffinityHeader), ","))
	}))
	defer server.Close()
	client := &http.Client{Transport: AffinityTransport{}}
	get := func(ctx context.Context, own string) string {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		must(t, err)
		if own != "" {
			request.Header.Set(AffinityHeader, own)
		}
		response, err := client.Do(request)
		must(t, err)
		_ = response.Body.Close()
		if request.Header.Get(AffinityHeader) != own {
			t.Error("the app's request was changed")
		}
		return response.Header.Get("got")
	}
	keyed := WithAffinity(t.Context(), "session 42")
	for _, c := range []struct {
		ctx       context.Context
		own, want string
	}{
		{keyed, "", "session 42"},
		{keyed, "its own", "its own"},
		{t.Context(), "", ""},
		{WithAffinity(keyed, ""), "", ""},
	} {
		if got := get(c.ctx, c.own); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestTheInterceptorsSetTheKeyOfTheContext(t *testing.T) {
	ctx := metadata.AppendToOutgoingContext(WithAffinity(t.Context(), "session 42"), "other", "kept")
	check := func(ctx context.Context) {
		sent, _ := metadata.FromOutgoingContext(ctx)
		if got := strings.Join(append(sent.Get(AffinityHeader), sent.Get("other")...), ","); got != "session 42,kept" {
			t.Errorf("sent %q", got)
		}
	}
	invoke := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		check(ctx)
		return nil
	}
	must(t, UnaryAffinity(ctx, "/s/m", nil, nil, nil, invoke))
	open := func(
		ctx context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, _ ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		check(ctx)
		return nil, nil
	}
	_, err := StreamAffinity(ctx, nil, nil, "/s/m", open)
	must(t, err)
}

func TestProxyHeaders(t *testing.T) {
	const signature = "0d0a0d0a000d0a515549540a"
	for _, c := range []struct{ source, destination, want string }{
		{"", "", "21 00 0006 e00003 6b6579"},
		{"192.0.2.1:1000", "127.0.0.1:80", "21 11 0012 c0000201 7f000001 03e8 0050 e00003 6b6579"},
		{"[::ffff:192.0.2.1]:1000", "127.0.0.1:80", "21 11 0012 c0000201 7f000001 03e8 0050 e00003 6b6579"},
		{"[2001:db8::1]:1000", "127.0.0.1:80", "21 21 002a 20010db8000000000000000000000001" +
			"00000000000000000000ffff7f000001 03e8 0050 e00003 6b6579"},
	} {
		var source, destination netip.AddrPort
		if c.source != "" {
			source, destination = netip.MustParseAddrPort(c.source), netip.MustParseAddrPort(c.destination)
		}
		header, err := ProxyHeader("key", source, destination)
		must(t, err)
		if want := signature + strings.ReplaceAll(c.want, " ", ""); hex.EncodeToString(header) != want {
			t.Errorf("%s -> %s: %x", c.source, c.destination, header)
		}
	}
	one := netip.MustParseAddrPort("127.0.0.1:80")
	for _, c := range []struct {
		key    string
		source netip.AddrPort
	}{{"", netip.AddrPort{}}, {strings.Repeat("k", 257), netip.AddrPort{}}, {"key", one}} {
		if header, err := ProxyHeader(c.key, c.source, netip.AddrPort{}); err == nil {
			t.Errorf("%q from %v: %x", c.key, c.source, header)
		}
	}
}
