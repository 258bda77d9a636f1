package profiles

import (
	"fmt"

	"github.com/safe-run/safe-run/tests/imagekit"
)

func nginxRedis() []software {
	return []software{
		{profile: "nginx", image: "nginx", port: "80", check: servesAs(imagekit.WelcomePage, 33)},
		{profile: "redis", image: "redis", port: "6379", check: asksRedis},
	}
}

// asksRedis stores a value, reads it, and has everything written to disk.
func asksRedis(c *container) error {
	const want = "+OK\r\n$5\r\nvalue\r\n+OK\r\n"
	got, err := talk(c.address, "SET key value\r\nGET key\r\nSAVE\r\n", len(want))
	if err == nil && got != want {
		err = fmt.Errorf("redis answers %q", got)
	}
	return err
}
