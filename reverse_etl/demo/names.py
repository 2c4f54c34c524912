"""Invented people and companies. Domains end in .example, which can never be anyone's (RFC 2606)."""

# ruff: noqa: SIM905  (names are easier on the eye as text)

from __future__ import annotations

FIRST = """
Ada Adebayo Agnieszka Ahmed Aiko Alejandra Alicia Amara Amir Ana Anders André Anika Anna Antoine Arjun Asha Astrid
Beatriz Bram Brigid Camila Carlos Carmen Cécile Chiara Chidi Chloé Clara Daan Daniel Daniela Dara David Devi Diego
Dmitri Ebba Eduardo Eleni Elif Elin Emeka Emil Emma Esther Eva Fatima Felix Filip Fiona Freya Gabriel Giulia Grace
Gustavo Hana Hannah Haruto Hélène Hugo Ibrahim Ida Igor Imani Ines Ingrid Isabel Ivan Jakub Jamal Jana Jens Joana
João Jonas Jorge José Julia Kaito Karim Katarzyna Kenji Khadija Kofi Lars Laura Layla Lea Leila Leon Lina Linh Liv
Lucas Lucía Luka Maja Malik Manuela Marek Maria Marta Mateo Matilda Maya Mehmet Mei Mia Miguel Mila Min Minh Mira
Mohammed Nadia Naomi Nia Niamh Nikhil Nikos Nina Noah Nora Olga Olivia Omar Oscar Paula Pavel Pedro Petra Priya Rafael
Rania Ravi Renée Rosa Ruth Saanvi Sakura Salma Samuel Sara Selma Sergio Siobhán Sofia Søren Stefan Sven Tariq Teresa
Thandi Theo Tomás Tomasz Tove Uma Valentina Vera Viktor Wanjiru Wei Yara Yasmin Yuki Yusuf Zainab Zeynep Zoë
""".split()

LAST = """
Abara Achebe Adeyemi Aguilar Ahmadi Almeida Amari Andersen Antonescu Arslan Bachmann Bakker Barbosa Barros Bauer
Becker Bennani Berg Bergström Bianchi Bjørnson Boateng Brennan Caldera Campos Carvalho Castellanos Chandra Chaudhary
Chen Cohen Cortés Costa Dahl Dang Delacroix Demir Desai Diallo Díaz Duarte Dubois Eze Ferrari Fischer Fontaine Fujita
García Gebre Georgiou Goldberg Gonçalves Grabowski Greco Gupta Haddad Hakimi Halloran Hansen Hashimoto Hassan Hayashi
Hernández Hoang Hoffmann Horvat Ibsen Ikeda Iyer Jankowski Jansen Jensen Johansson Kamau Kaplan Karlsson Kaya Keller
Khan Kimani Kobayashi Kovács Kowalczyk Krüger Kumar Larsen Laurent Lefèvre Lehmann Leitner Lindgren Lindqvist Lopes
Maalouf Macharia Maier Mansour Marchetti Martins Mbeki Mehta Mendes Mensah Moreau Morales Müller Murphy Mwangi Nakamura
Narayan Navarro Ndiaye Neumann Nguyen Nielsen Novak Núñez O'Brien O'Sullivan Oduya Okafor Okonkwo Olsen Osei Östberg
Papadakis Park Patel Pereira Petrov Pham Popescu Quispe Rahman Ramírez Rasmussen Reyes Ricci Romano Rossi Sato Schäfer
Schneider Sharma Silva Sørensen Stavros Suárez Suzuki Svensson Takeda Tan Tanaka Torres Tran Tremblay Ueda Vargas
Vasquez Vermeulen Vieira Virtanen Vogel Wagner Watanabe Weber Wójcik Yamada Yilmaz Zhang Zielinski Zimmermann
""".split()

COLOURS = """
Amber Ash Birch Blue Brass Bright Bronze Cedar Chalk Clear Cobalt Copper Coral Crimson Dusk Ember Fair Flint Frost
Garnet Golden Granite Green Hazel Indigo Ivory Jade Juniper Lantern Lilac Linen Maple Marble Mellow Mint Moss Nimble
Ochre Olive Opal Orchid Pebble Pine Plain Quartz Quiet Red Rowan Saffron Sage Sandy Scarlet Silver Slate Spruce Still
Swift Teal Thistle Umber Velvet Willow Winter
""".split()

THINGS = """
Anchor Badger Bay Beacon Bell Bridge Brook Canyon Compass Cove Crane Creek Delta Dune Falcon Fern Field Finch Forge
Fox Gate Glen Grove Harbor Hare Hearth Heron Hill Island Kestrel Kite Lake Lark Ledge Loom Meadow Mill Orchard Otter
Owl Path Peak Pier Plover Pond Quarry Reef Ridge River Robin Root Sail Shore Sparrow Spring Stone Summit Thicket Tide
Trail Vale Lagoon Wharf Wren
""".split()

TRADES = [
    "",
    "",
    "",
    " Labs",
    " Studio",
    " Logistics",
    " Health",
    " Energy",
    " Foods",
    " & Co.",
    " Analytics",
    " Works",
]

PLACES = [
    ("Amsterdam", "Netherlands"),
    ("Austin", "United States"),
    ("Barcelona", "Spain"),
    ("Berlin", "Germany"),
    ("Bogotá", "Colombia"),
    ("Boston", "United States"),
    ("Chicago", "United States"),
    ("Copenhagen", "Denmark"),
    ("Dublin", "Ireland"),
    ("Istanbul", "Türkiye"),
    ("Kraków", "Poland"),
    ("Lagos", "Nigeria"),
    ("Lisbon", "Portugal"),
    ("London", "United Kingdom"),
    ("Lyon", "France"),
    ("Melbourne", "Australia"),
    ("Mexico City", "Mexico"),
    ("Milan", "Italy"),
    ("Montréal", "Canada"),
    ("Nairobi", "Kenya"),
    ("New York", "United States"),
    ("Osaka", "Japan"),
    ("Pune", "India"),
    ("San Francisco", "United States"),
    ("São Paulo", "Brazil"),
    ("Seattle", "United States"),
    ("Singapore", "Singapore"),
    ("Stockholm", "Sweden"),
    ("Toronto", "Canada"),
    ("Zürich", "Switzerland"),
]
