package main

import (
	"os"

	containerd "github.com/containerd/containerd/v2/client"
	"google.golang.org/grpc"

	"github.com/safe-run/safe-run/internal/engine"
	"github.com/safe-run/safe-run/launcher"
)

// dialed is a client whose connection is being made already.
type dialed struct {
	address, namespace string
	client             *containerd.Client
}

// dial makes a client and starts its connection without waiting for it.
func dial(address, namespace string) (*containerd.Client, error) {
	client, err := containerd.New(address, containerd.WithDefaultNamespace(namespace), containerd.WithDefaultRuntime("io.containerd.runc.v2"),
		containerd.WithExtraDialOpts([]grpc.DialOption{grpc.WithContextDialer(engine.Dial)}))
	if err != nil {
		return nil, err
	}
	if c, ok := client.Conn().(*grpc.ClientConn); ok {
		c.Connect()
	}
	return client, nil
}

// dialAhead connects to the containerd a launch most likely uses while its
// command line is still being read: making the connection is a millisecond of
// a launch that nothing else needs to wait for. A guess that proves wrong is
// dropped. Nothing is started by it.
func dialAhead() <-chan dialed {
	ahead := make(chan dialed, 1)
	_, run := place()
	go func() {
		defer close(ahead)
		for _, address := range []string{engine.SystemAddress, embedded(run)} {
			if st, err := os.Stat(address); err != nil || st.Mode().Type() != os.ModeSocket {
				continue
			}
			if client, err := dial(address, launcher.DefaultNamespace); err == nil {
				ahead <- dialed{address, launcher.DefaultNamespace, client}
			}
			return
		}
	}()
	return ahead
}

// clientFor gives a client for an address: the one dialed ahead, if it fits.
func clientFor(address, namespace string, ahead <-chan dialed) (*containerd.Client, error) {
	if ahead != nil {
		if d, ok := <-ahead; ok {
			if d.address == address && d.namespace == namespace {
				return d.client, nil
			}
			_ = d.client.Close()
		}
	}
	return dial(address, namespace)
}
