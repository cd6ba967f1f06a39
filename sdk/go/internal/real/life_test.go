package real

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	outrigger "github.com/outrigger-lb/outrigger/sdk/go"
)

const appVariable = "OUTRIGGER_TEST_APP"

// TestMain is the app that is killed, if it is told where the sidecar is.
func TestMain(m *testing.M) {
	if arguments := os.Getenv(appVariable); arguments != "" {
		if err := app(strings.Fields(arguments)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// app gives orders under a lease, says so, and waits for its end.
func app(arguments []string) error {
	client, err := outrigger.Dial(outrigger.WithAddress(arguments[0]), outrigger.WithOwner("app"))
	if err != nil {
		return err
	}
	ctx := context.Background()
	lease, err := client.OpenLease(ctx)
	if err != nil {
		return err
	}
	if _, err := lease.SetWeight(ctx, "api", arguments[1], 9); err != nil {
		return err
	}
	if _, err := lease.Drain(ctx, "api", arguments[2], time.Minute); err != nil {
		return err
	}
	if _, err := lease.SetAffinity(ctx, "api", "session", arguments[1]); err != nil {
		return err
	}
	fmt.Println("ordered")
	select {}
}

func TestWhatAKilledAppHasOrderedIsGone(t *testing.T) {
	s := start(t)
	client := s.client()
	one, two := s.backends[0], s.backends[1]
	itself, err := os.Executable()
	must(t, err)
	command := exec.Command(itself)
	command.Env = append(os.Environ(), appVariable+"="+strings.Join([]string{s.control, one, two}, " "))
	output, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	t.Cleanup(func() { _ = command.Process.Kill() })
	line, _ := bufio.NewReader(output).ReadString('\n')
	if line != "ordered\n" {
		t.Fatalf("the app says %q", line)
	}
	weighed, drained := s.backend(client, one), s.backend(client, two)
	if weighed.EffectiveWeight != 9 || weighed.Pins != 1 || !weighed.Orders[0].Leased || weighed.Orders[0].Owner != "app" {
		t.Errorf("ordered: %+v", weighed)
	}
	if drained.State != outrigger.StateDraining {
		t.Errorf("ordered: %+v", drained)
	}

	must(t, command.Process.Kill())
	within(t, time.Second, "its orders are gone", func() bool {
		weighed, drained = s.backend(client, one), s.backend(client, two)
		return weighed.EffectiveWeight == 1 && len(weighed.Orders) == 0 && weighed.Pins == 0 &&
			drained.State == outrigger.StateReady && len(drained.Orders) == 0
	})
	_ = command.Wait()
}

func TestALeaseTakesBackWhatItHasOrdered(t *testing.T) {
	s := start(t)
	client := s.client(outrigger.WithOwner("deploy"))
	ctx, one := t.Context(), s.backends[0]
	lease, err := client.OpenLease(ctx)
	must(t, err)
	_, err = lease.ScaleWeight(ctx, "api", one, 3)
	must(t, err)
	_, err = client.SetWeight(ctx, "api", one, 5, time.Minute)
	must(t, err)
	if backend := s.backend(client, one); backend.EffectiveWeight != 15 || len(backend.Orders) != 2 {
		t.Errorf("both orders: %+v", backend)
	}
	backend, err := lease.ClearWeight(ctx, "api", one)
	must(t, err)
	if backend.EffectiveWeight != 5 {
		t.Errorf("the lease's is taken back: %+v", backend)
	}
	_, err = lease.Drain(ctx, "api", one, time.Minute)
	must(t, err)
	backend, err = client.Resume(ctx, "api", one)
	must(t, err)
	if backend.State != outrigger.StateDraining {
		t.Errorf("somebody else has resumed it: %+v", backend)
	}
	backend, err = lease.Resume(ctx, "api", one)
	must(t, err)
	if backend.State != outrigger.StateReady {
		t.Errorf("resumed: %+v", backend)
	}
	_, err = lease.SetAffinity(ctx, "api", "session", one)
	must(t, err)
	cleared, err := lease.ClearAffinity(ctx, "api", "session")
	must(t, err)
	if !cleared {
		t.Error("there was no pin")
	}
	_, err = lease.SetWeight(ctx, "api", one, 7)
	must(t, err)
	must(t, lease.Close())
	within(t, time.Second, "its order ends with the lease", func() bool {
		return s.backend(client, one).EffectiveWeight == 5
	})
	_, err = s.client(outrigger.WithOwner("fleet")).OpenLease(ctx)
	refused(t, err, outrigger.ErrInvalid, "owner")
}

func TestLeasesAndWatchesSurviveARestartOfTheSidecar(t *testing.T) {
	s := start(t)
	client := s.client()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	one := s.backends[0]
	lease, err := client.OpenLease(ctx)
	must(t, err)
	_, err = lease.SetWeight(ctx, "api", one, 7)
	must(t, err)
	_, err = lease.SetAffinity(ctx, "api", "session", one)
	must(t, err)

	instance, versions := "", 0
	for view, err := range client.Watch(ctx, "api") {
		must(t, err)
		restored := false
		for _, backend := range view.Backends {
			restored = restored || backend.Name == one && backend.EffectiveWeight == 7
		}
		if instance == "" {
			if !restored || len(view.Backends) != 3 {
				t.Fatalf("the first view: %+v", view)
			}
			instance = view.Instance
			s.kill()
			s.run()
			continue
		}
		versions++
		if view.Instance == instance {
			t.Errorf("the restarted sidecar has the same instance")
		}
		if restored {
			break
		}
	}
	if ctx.Err() != nil || versions == 0 {
		t.Fatal("the order was not given again")
	}
	within(t, time.Second, "the pin is given again", func() bool {
		lead, err := client.Affinity(ctx, "api", "session")
		return err == nil && lead.PinnedTo == one
	})
	must(t, lease.Close())
	within(t, time.Second, "its orders end with the lease", func() bool {
		backend := s.backend(client, one)
		return backend.EffectiveWeight == 1 && backend.Pins == 0
	})
	for view, err := range client.Watch(ctx, "apo") {
		if view != nil {
			t.Errorf("a view of nothing: %+v", view)
		}
		refused(t, err, outrigger.ErrNotFound, "cluster")
	}
}

func TestThousandsOfPinsAreGivenAgain(t *testing.T) {
	s := start(t)
	client := s.client()
	lease, err := client.OpenLease(t.Context())
	must(t, err)
	const pins = 3000
	for i := range pins {
		_, err := lease.SetAffinity(t.Context(), "api", strconv.Itoa(i), s.backends[i%len(s.backends)])
		must(t, err)
	}
	s.kill()
	s.run()
	within(t, 30*time.Second, "all are given again", func() bool {
		clusters, err := client.Clusters(t.Context(), "api")
		return err == nil && clusters[0].Pins == pins
	})
	must(t, lease.Close())
	within(t, time.Second, "all end with the lease", func() bool {
		clusters, err := client.Clusters(t.Context(), "api")
		return err == nil && clusters[0].Pins == 0
	})
}
