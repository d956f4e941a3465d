"""Small clips whose actions, camera motion and displacement fields are known exactly."""
