package profiles

import "strings"

// imagePath is where an image has its profile, if none is named.
const imagePath = "/etc/safe-run/profile.yaml"

// InImage says whether a reference is to a file of the image that is run,
// image:PATH, and gives its path; image: alone is /etc/safe-run/profile.yaml.
func InImage(ref string) (path string, is bool) {
	path, is = strings.CutPrefix(ref, "image:")
	if is && path == "" {
		path = imagePath
	}
	return path, is
}
