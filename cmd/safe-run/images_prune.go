package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/safe-run/safe-run/internal/images"
)

// imageVerb is the group `image`. Its other words are verbs of their own.
func imageVerb() *cobra.Command {
	c := group("image", "Images: "+words("image"), imagePrune())
	c.Long = "The verbs for images by the names of docker's group: " + words("image") + ".\nOnly prune is no verb of its own."
	return c
}

func imagePrune() *cobra.Command {
	var e endpoint
	var all, force bool
	var words []string
	c := &cobra.Command{Use: "prune [OPTIONS]", Short: "Remove images no container was made from", Args: exactly(0), RunE: func(c *cobra.Command, _ []string) error {
		by, err := filtersOf(words, "label", "label!", "until", "dangling")
		if err != nil {
			return err
		}
		for _, v := range by["dangling"] {
			all = all || v == "false" || v == "0"
		}
		delete(by, "dangling")
		question := "WARNING! This will remove all dangling images."
		if all {
			question = "WARNING! This will remove all images without at least one container associated to them."
		}
		if !force && !confirmed(question+"\nAre you sure you want to continue?") {
			return nil
		}
		return e.with(c.Context(), func(ctx context.Context, s *session) error {
			freed, err := pruneImages(ctx, s, all, by)
			fmt.Println("Total reclaimed space:", units.HumanSize(float64(freed)))
			return err
		})
	}}
	c.Long = `Remove images that have no name and that no container was made from; with -a
also those with a name.`
	c.Example = `  safe-run image prune
  safe-run image prune -a -f --filter until=240h`
	e.flags(c)
	c.Flags().BoolVarP(&all, "all", "a", false, "also images with a name")
	c.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	c.Flags().StringArrayVar(&words, "filter", nil, "only those with label=KEY[=VALUE], label!=KEY[=VALUE], until=TIME")
	return c
}

// pruneImages removes the images no container has, of those without a name or
// of all, and gives the bytes that became free.
func pruneImages(ctx context.Context, s *session, all bool, by filters) (freed int64, err error) {
	until, err := by.until(time.Now())
	if err != nil {
		return 0, err
	}
	uses, err := imageUses(s.launcher.Store)
	if err != nil {
		return 0, err
	}
	list, err := s.images.List(ctx)
	if err != nil {
		return 0, err
	}
	content, unpacked, err := s.images.Disk(ctx)
	if err != nil {
		return 0, err
	}
	var lines []string
	var errs error
	for _, e := range list {
		if !all && !e.Dangling() || !by.labelled(e.Labels) || !until.IsZero() && !e.Created.Before(until) ||
			slices.ContainsFunc(uses, func(u images.Use) bool { return u.Of(e) }) {
			continue
		}
		more, err := s.images.Untag(ctx, e.Name)
		for _, l := range more {
			lines = append(lines, strings.ToLower(l[:1])+l[1:])
		}
		errs = errors.Join(errs, err)
	}
	printDeleted("Images", lines)
	if len(lines) == 0 {
		return 0, errs
	}
	c, u, err := s.images.Disk(ctx)
	return max(0, content+unpacked-c-u), errors.Join(errs, err)
}
