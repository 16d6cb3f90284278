"""The words demo data is made of: people, companies, places and goods of several countries."""

# ruff: noqa: RUF001  letters of several alphabets are the point

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Country:
    """Names as they occur in one country; `code` is ISO 3166, `language` as in Django's LANGUAGES."""

    code: str
    language: str
    currency: str
    dial: str
    given: tuple[str, ...]
    family: tuple[str, ...]
    cities: tuple[str, ...]
    streets: tuple[str, ...]
    companies: tuple[str, ...]
    family_first: bool = False

    def full_name(self, given: str, family: str) -> str:
        """Return a full name in the order that is usual here."""
        return f"{family}{given}" if self.family_first else f"{given} {family}".strip()


COUNTRIES = (
    Country(
        code="ID",
        language="id",
        currency="IDR",
        dial="+62",
        given=("Budi", "Siti", "Dewi", "Agus", "Putri", "Rizky", "Wahyu", "Ayu", "Joko", "Nurul", "Bayu", "Sri"),
        family=("Santoso", "Wijaya", "Hidayat", "Lestari", "Nugroho", "Saputra", "Kusuma", "Siregar", "Pratiwi"),
        cities=("Jakarta", "Surabaya", "Bandung", "Yogyakarta", "Denpasar", "Medan"),
        streets=("Jl. Sudirman", "Jl. Gajah Mada", "Jl. Diponegoro", "Jl. Malioboro"),
        companies=("PT {} Makmur", "PT Sumber {}", "CV {} Jaya", "UD {} Abadi"),
    ),
    Country(
        code="DE",
        language="de",
        currency="EUR",
        dial="+49",
        given=("Jürgen", "Anna", "Günther", "Käthe", "Lukas", "Zoë", "Björn", "Sophie", "Jörg", "Marie"),
        family=("Müller", "Schröder", "Weiß", "Groß", "Köhler", "Jäger", "Böhm", "Fuchs", "Schäfer", "Vogt"),
        cities=("München", "Köln", "Nürnberg", "Düsseldorf", "Hamburg", "Würzburg"),
        streets=("Hauptstraße", "Gärtnerweg", "Mühlgasse", "Bahnhofstraße"),
        companies=("{} & Söhne GmbH", "{} Großhandel KG", "Gebrüder {} AG", "{} Maschinenbau GmbH"),
    ),
    Country(
        code="GB",
        language="en",
        currency="GBP",
        dial="+44",
        given=("Oliver", "Emily", "Harry", "Siobhán", "George", "Charlotte", "Seán", "Amelia", "Zara"),
        family=("Smith", "O'Connor", "Taylor", "MacDonald", "Evans", "Wright", "Patel", "Hughes", "D'Arcy"),
        cities=("London", "Leeds", "Bristol", "Glasgow", "Kingston upon Hull"),
        streets=("High Street", "Station Road", "Victoria Road", "King's Lane"),
        companies=("{} & Co. Ltd", "{} Brothers Ltd", "{} Trading plc", '{} "Quality" Supplies Ltd'),
    ),
    Country(
        code="PL",
        language="pl",
        currency="PLN",
        dial="+48",
        given=("Łukasz", "Małgorzata", "Paweł", "Żaneta", "Michał", "Agnieszka", "Grażyna", "Józef"),
        family=("Wójcik", "Kowalczyk", "Dąbrowski", "Zając", "Król", "Wróbel", "Stępień", "Gołąb"),
        cities=("Łódź", "Kraków", "Gdańsk", "Wrocław", "Poznań"),
        streets=("ul. Długa", "ul. Kościuszki", "ul. Świętojańska", "al. Jerozolimskie"),
        companies=("{} Sp. z o.o.", "Zakłady {} S.A.", "Hurtownia {}", "PPHU {}"),
    ),
    Country(
        code="FR",
        language="fr",
        currency="EUR",
        dial="+33",
        given=("François", "Hélène", "Gaël", "Chloé", "André", "Noémie", "Jérôme", "Anaïs"),
        family=("Lefèvre", "Dubois", "Bérard", "L'Hôpital", "Girard", "Château", "Besançon", "Noël"),
        cities=("Paris", "Lyon", "Besançon", "Orléans", "Nîmes"),
        streets=("rue de l'Église", "avenue Foch", "boulevard Voltaire", "quai des Belges"),
        companies=("Établissements {}", "{} et Fils SARL", "Société {} SA", "Maison {}"),
    ),
    Country(
        code="TR",
        language="tr",
        currency="TRY",
        dial="+90",
        given=("Çağlar", "İpek", "Oğuz", "Şule", "Gökhan", "Işıl", "Ümit", "Ayşe"),
        family=("Yılmaz", "Öztürk", "Şahin", "Çelik", "Koç", "Aydın", "Güneş", "Kılıç"),
        cities=("İstanbul", "İzmir", "Muğla", "Eskişehir"),
        streets=("Atatürk Caddesi", "İstiklal Caddesi", "Çınar Sokak"),
        companies=("{} Ticaret A.Ş.", "{} Kardeşler Ltd. Şti.", "{} Gıda San."),
    ),
    Country(
        code="JP",
        language="ja",
        currency="JPY",
        dial="+81",
        given=("健太", "美咲", "大輔", "陽子", "翔", "さくら", "直樹", "彩"),
        family=("山田", "佐藤", "鈴木", "高橋", "渡辺", "中村", "小林", "𠮷田"),
        cities=("東京", "大阪", "名古屋", "京都"),
        streets=("中央通り", "桜通り", "本町"),
        companies=("株式会社{}商店", "{}工業株式会社", "有限会社{}"),
        family_first=True,
    ),
    Country(
        code="AE",
        language="ar",
        currency="AED",
        dial="+971",
        given=("أحمد", "فاطمة", "محمد", "ليلى", "يوسف", "مريم", "خالد", "نور"),
        family=("الهاشمي", "المنصوري", "النعيمي", "الشامسي", "الكعبي", "البلوشي"),
        cities=("دبي", "أبوظبي", "الشارقة"),
        streets=("شارع الشيخ زايد", "شارع الوحدة", "شارع الكورنيش"),
        companies=("شركة {} للتجارة", "مؤسسة {}", "مجموعة {}"),
    ),
)

RATES = {
    "EUR": 100_000_000,
    "GBP": 117_250_000,
    "PLN": 23_400_000,
    "TRY": 2_050_000,
    "AED": 23_480_000,
    "JPY": 569_000,
    "IDR": 5_230,
}
"""What one unit of a currency is worth, in hundred-millionths of a euro."""

WAREHOUSES = (
    ("JKT", "Gudang Utama", "Jakarta", "ID", "Asia/Jakarta", -6.2088, 106.8456),
    ("SUB", "Gudang Timur", "Surabaya", "ID", "Asia/Jakarta", -7.2575, 112.7521),
    ("MUC", "Zentrallager Süd", "München", "DE", "Europe/Berlin", 48.1351, 11.5820),
    ("LDZ", "Magazyn Główny", "Łódź", "PL", "Europe/Warsaw", 51.7592, 19.4560),
    ("LDS", "North Depot", "Leeds", "GB", "Europe/London", 53.8008, -1.5491),
)

CATEGORIES: tuple[tuple[str, str, tuple[tuple[str, str, str, tuple[str, ...]], ...]], ...] = (
    (
        "HW",
        "Hardware",
        (
            ("HW-SCR", "Schrauben & Muttern", "pcs", ("Sechskantschraube", "Flügelmutter", "Unterlegscheibe")),
            ("HW-TLS", "Werkzeug", "pcs", ("Hammer", "Obeng Philips", "Spirit Level", "Kombizange", "Klucz płaski")),
            ("HW-CBL", "Kabel", "m", ("Cable NYM-J", "Koaxialkabel", "Câble réseau Cat 6", "Kabel listrik")),
        ),
    ),
    (
        "FD",
        "Food & Beverage",
        (
            ("FD-COF", "Kopi", "kg", ("Kopi Gayo", "Kopi Toraja", "Café São Tomé", "Espresso Röstung", "Türk kahvesi")),
            ("FD-SPC", "Rempah-rempah", "kg", ("Cengkeh", "Kayu Manis", "Piment d'Espelette", "Kurkuma", "زعفران")),
            ("FD-TEA", "Tea", "kg", ("抹茶", "Jasmine Tea", "Teh Hitam", "Ostfriesentee", "Herbata malinowa")),
            ("FD-OIL", "Oils", "l", ("Minyak Kelapa", "Huile d'olive", "Leinöl", "Ayçiçek yağı")),
        ),
    ),
    (
        "TX",
        "Textiles",
        (
            ("TX-BTK", "Batik", "m", ("Batik Parang", "Batik Mega Mendung", "Kain Tenun", "Songket")),
            ("TX-GAR", "Garments", "pcs", ("Kemeja", "Strickjacke", "Work Trousers", "Fartuch", "着物")),
        ),
    ),
    (
        "OF",
        "Office",
        (
            ("OF-PAP", "Papier", "pcs", ("Kopierpapier 80 g/m²", "Cahier à spirale", "Buku Tulis", "Notes A5")),
            ("OF-FUR", "Furniture", "pcs", ("Bürostuhl", "Standing Desk", "Meja Jati", "Étagère", "Regał")),
        ),
    ),
    (
        "CH",
        "Chemicals",
        (
            ("CH-CLN", "Cleaning", "l", ("Allzweckreiniger", "Sabun Cair", "Glass Cleaner", "Płyn do naczyń")),
            ("CH-PNT", "Farben & Lacke", "l", ("Wandfarbe weiß", "Cat Tembok", "Vernis à bois", "Metal boyası")),
        ),
    ),
)
"""Branch code and name, then its categories: code, name, unit, and the goods found there."""

QUALITIES = ("Premium", "Standard", "Extra", "Spezial", "Super", "Économique", "Asli", "Bio", "Pro", "Klasik")
SIZES = ("XS", "S", "M", "L", "XL", "½″", "¾″", "10 mm", "25 mm", "Ø 8", "№ 5", "500 g", "2×4")
COLOURS = ("red", "grün", "bleu", "hitam", "biały", "青", "beyaz", "orange")
TAGS = (
    ("bestseller", "#2e7d32"),
    ("fragile", "#c62828"),
    ("Gefahrgut", "#ef6c00"),
    ("halal", "#00695c"),
    ("bio", "#558b2f"),
    ("promo Lebaran", "#6a1b9a"),
    ("saisonnier", "#1565c0"),
    ("importé", "#37474f"),
    ("新商品", "#ad1457"),
    ("import / ręczny", "#4e342e"),
)
NOTES = (
    "Palette beschädigt, Ware in Ordnung",
    "Kiriman tertunda karena hujan",
    "Checked twice; driver's copy signed",
    "Livré à l'étage",
    "Brak dokumentu WZ, uzupełnić",
    "再梱包済み ✓",
    "Müşteri teslim aldı",
    'Customer says: "as always"',
)
CARRIERS = ("JNE", "DHL", "InPost", "Royal Mail", "ヤマト運輸", "Aramex")
