package profiles

import (
	"fmt"
	"strings"

	"github.com/safe-run/safe-run/tests/imagekit"
)

func webapps() []software {
	return []software{
		{profile: "apache", image: "apache", port: "80", check: servesAs(imagekit.ApachePage, 33)},
		{profile: "node", image: "node", port: "3000", check: serves(imagekit.NodePage)},
		{profile: "python", image: "python", port: "8000", check: serves(imagekit.PythonPage)},
	}
}

// servesAs checks the page, and that of the server's processes only the first
// is root: apache that may not change its group serves as root.
func servesAs(want string, worker uint32) func(*container) error {
	page := serves(want)
	return func(c *container) error {
		if err := page(c); err != nil {
			return err
		}
		processes, err := c.Processes()
		if err != nil {
			return err
		}
		workers := 0
		for _, p := range processes {
			if p.UID == worker {
				workers++
			} else if !first(p.Status["NSpid"]) {
				return fmt.Errorf("%q is of user %d", p.Args, p.UID)
			}
		}
		if workers == 0 {
			return fmt.Errorf("%d processes, and none is of user %d", len(processes), worker)
		}
		return nil
	}
}

// first says whether a process is number 1 in its container, by the field
// NSpid of its status: its numbers from the outermost namespace inwards.
func first(nspid string) bool {
	numbers := strings.Fields(nspid)
	return len(numbers) > 1 && numbers[len(numbers)-1] == "1"
}
