package profiles

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/safe-run/safe-run/tests/imagekit"
)

func proxies() []software {
	return []software{
		{profile: "haproxy", image: "haproxy", port: "80", check: serves(imagekit.ProxiedPage)},
	}
}

// serves checks that the page at / is the wanted one.
func serves(want string) func(*container) error {
	return func(c *container) error {
		client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer().DialContext}}
		res, err := client.Get("http://" + c.address + "/")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
		if err == nil && (res.StatusCode != http.StatusOK || string(body) != want) {
			err = fmt.Errorf("%s: %q", res.Status, body)
		}
		return err
	}
}
