"""How large an organism is: its outline in the picture, in micrometres, and volumes made from it."""
